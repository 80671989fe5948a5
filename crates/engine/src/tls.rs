//! TLS on a load's connections, by rustls: DNS over TLS (RFC 7858) and whatever else runs over a stream.
//!
//! Sessions are resumed where the server lets them (RFC 8446, section 2.2): all connections of a run share one store.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::plan;
use crate::stream_layer::{StreamError, StreamLayer};
use crate::text_file;

/// DNS over TLS by its registered name (RFC 7858, IANA's list of protocol identifiers).
const DOT: &[u8] = b"dot";

/// The asking end of TLS.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// What all connections of a run share. Errors: a bad name, or authorities that cannot be read.
    pub fn new(asked: &plan::Tls) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = if asked.verify {
            builder.with_root_certificates(authorities(asked.authorities.as_deref())?).with_no_client_auth()
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Trusting(provider))).with_no_client_auth()
        };
        config.alpn_protocols = vec![DOT.to_vec()];
        if !asked.resume {
            config.resumption = Resumption::disabled();
        }
        let bad = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("'{}' is no server name", asked.name));
        let name = ServerName::try_from(asked.name.clone()).map_err(bad)?;
        Ok(Self { config: Arc::new(config), name })
    }
}

/// The authorities of a PEM file, or the system's.
fn authorities(file: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found: Vec<CertificateDer<'_>> = match file {
        Some(path) => {
            let broken = |error: &dyn Display| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("'{}': {error}", path.display()))
            };
            let text = File::open(path).map(BufReader::new).and_then(text_file::unmarked).map_err(|e| broken(&e))?;
            CertificateDer::pem_reader_iter(text).collect::<Result<_, _>>().map_err(|e| broken(&e))?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 {
        let whose = file.map_or("the system's store".to_owned(), |path| format!("'{}'", path.display()));
        let why = format!("no certificate of an authority in {whose}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(roots)
}

impl StreamLayer for Tls {
    type State = Option<Box<ClientConnection>>;
    const PLAIN: bool = false;

    fn begin(&self, state: &mut Self::State, out: &mut Vec<u8>) -> Result<(), StreamError> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let connection = state.insert(Box::new(connection.map_err(in_words)?));
        // What is written leaves at once, so nothing piles up.
        connection.set_buffer_limit(None);
        flush(connection, out)
    }

    fn decode(
        &self,
        state: &mut Self::State,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let Some(connection) = state else { return Ok(()) };
        while !bytes.is_empty() {
            if connection.read_tls(&mut bytes).map_err(in_words)? == 0 {
                // The far end had said that it sends no more; what follows is ignored.
                return Ok(());
            }
            let taken = connection.process_new_packets();
            // An alert explains to the far end what was wrong with what it sent.
            flush(connection, out)?;
            let ready = match taken {
                Ok(taken) => taken.plaintext_bytes_to_read(),
                Err(error) => {
                    // What came whole before it is heard; how that reading ends says nothing new.
                    let _ = connection.reader().read_to_end(plain);
                    return Err(in_words(error));
                }
            };
            let at = plain.len();
            plain.resize(at + ready, 0);
            connection.reader().read_exact(&mut plain[at..]).map_err(in_words)?;
        }
        Ok(())
    }

    fn ready(&self, state: &Self::State) -> bool {
        state.as_ref().is_some_and(|connection| !connection.is_handshaking())
    }

    fn encode(&self, state: &mut Self::State, plain: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        let Some(connection) = state else { return Ok(()) };
        io::Write::write_all(&mut connection.writer(), plain).map_err(in_words)?;
        flush(connection, out)
    }
}

fn flush(connection: &mut ClientConnection, out: &mut Vec<u8>) -> Result<(), StreamError> {
    while connection.wants_write() {
        connection.write_tls(out).map_err(in_words)?;
    }
    Ok(())
}

fn in_words(error: impl std::fmt::Display) -> StreamError {
    format!("TLS: {error}")
}

/// Takes any certificate, but checks that the server holds its key: a server under test mostly signs its own.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
