//! Servers that speak TLS, in this process: with the certificates in `tls/`, which are made for these tests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use flatout_wire::Client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::fake_streams::{Act, PeerAction, Reported};
use super::rig::QUICK;
use super::stream_rig::{Notes, Query};
use crate::plan;
use crate::stream_layer::StreamLayer;
use crate::tls::Tls;

pub(super) const NAME: &str = "flatout.test";
pub(super) const BOTH: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

pub(super) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/tls").join(name)
}

/// A server of these versions and names of protocols.
pub(super) fn server(versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(file("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client that trusts the tests' authority.
pub(super) fn asked() -> plan::Tls {
    plan::Tls { name: NAME.into(), verify: true, authorities: Some(file("authority.pem")), resume: true }
}

/// What a server makes of bytes: it hears plain ones, and has something to send.
pub(super) fn serve(server: &mut ServerConnection, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).unwrap();
        let ready = server.process_new_packets()?.plaintext_bytes_to_read();
        let at = plain.len();
        plain.resize(at + ready, 0);
        server.reader().read_exact(&mut plain[at..]).unwrap();
    }
    Ok(plain)
}

pub(super) fn outgoing(server: &mut ServerConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut out).unwrap();
    }
    out
}

/// What plays the far ends, byte by byte.
pub(super) type FarEnds = Box<dyn FnMut(Reported<'_>) -> Vec<(u64, PeerAction)>>;

/// One connection between both ends, without a network.
pub(super) struct Pair {
    pub(super) tls: Tls,
    pub(super) state: <Tls as StreamLayer>::State,
    pub(super) server: ServerConnection,
    /// What the client has heard.
    pub(super) ready: Vec<u8>,
    /// What the server has heard.
    pub(super) served: Vec<u8>,
    /// No piece on the way to the client is longer.
    pub(super) piece: usize,
}

impl Pair {
    pub(super) fn of(tls: &Tls, server: &Arc<ServerConfig>) -> Self {
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        server.set_buffer_limit(None);
        Self { tls: tls.clone(), state: None, server, ready: Vec::new(), served: Vec::new(), piece: usize::MAX }
    }

    /// Both ends say what they have to say until neither has; `first` is what the client begins with.
    pub(super) fn talk(&mut self, first: &[u8]) -> Result<(), String> {
        let mut to_server = first.to_vec();
        loop {
            let served = serve(&mut self.server, &to_server).map_err(|error| format!("server: {error}"));
            to_server.clear();
            let to_client = outgoing(&mut self.server);
            for piece in to_client.chunks(self.piece) {
                self.tls.decode(&mut self.state, piece, &mut self.ready, &mut to_server)?;
            }
            self.served.extend(served?);
            if to_server.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) fn shake_hands(&mut self) -> Result<(), String> {
        let mut hello = Vec::new();
        self.tls.begin(&mut self.state, &mut hello)?;
        assert!(!self.tls.ready(&self.state));
        self.talk(&hello)?;
        if self.tls.ready(&self.state) { Ok(()) } else { Err("not ready".into()) }
    }

    pub(super) fn ask(&mut self, message: &[u8]) {
        let mut out = Vec::new();
        self.tls.encode(&mut self.state, message, &mut out).unwrap();
        self.talk(&out).unwrap();
    }

    pub(super) fn answer(&mut self, message: &[u8]) {
        self.server.writer().write_all(message).unwrap();
        self.talk(&[]).unwrap();
    }
}

/// Plays far ends that speak TLS: each answers by a script in pieces of so many bytes, all of them [`QUICK`] later.
pub(super) fn far_ends<A: Client>(
    config: Arc<ServerConfig>,
    piece: usize,
    mut script: impl FnMut(&Query) -> Vec<PeerAction> + 'static,
) -> impl FnOnce(A, Rc<RefCell<Notes>>) -> FarEnds {
    let mut servers = HashMap::new();
    move |client, notes| {
        Box::new(move |Reported { at, far, act }| {
            let notes = &mut *notes.borrow_mut();
            let bytes = match act {
                Act::Open(_) => {
                    notes.want(at);
                    servers.insert(far, ServerConnection::new(Arc::clone(&config)).unwrap());
                    return vec![(QUICK, PeerAction::Accept)];
                }
                Act::Close(how) => {
                    notes.close(far, at, how);
                    return Vec::new();
                }
                Act::Bytes(bytes) => bytes,
            };
            let server: &mut ServerConnection = servers.get_mut(&far).unwrap();
            let mut actions = Vec::new();
            // A client that gives up says so; what it makes no sense with ends the connection.
            let Ok(plain) = serve(server, bytes) else {
                return vec![(QUICK, PeerAction::Fail(flatout_net::CloseReason::Reset))];
            };
            for action in notes.read_replies(&client, far, at, &plain).iter().flat_map(&mut script) {
                if let PeerAction::Send(plain) = action {
                    server.writer().write_all(&plain).unwrap();
                } else {
                    actions.push((QUICK, action));
                }
            }
            let out = outgoing(server);
            let sends = out.chunks(piece).map(|bytes| (QUICK, PeerAction::Send(bytes.to_vec())));
            sends.chain(actions).collect()
        })
    }
}
