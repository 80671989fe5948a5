//! What lies between a connection's bytes and a protocol's: nothing, or TLS.

/// Why a connection cannot go on, in words.
pub type StreamError = String;

/// Wraps what is said on connections and unwraps what is heard.
pub trait StreamLayer {
    /// Kept for each connection; the default one belongs to no connection yet.
    type State: Default;
    /// Whether bytes pass as they are: then nothing below is called.
    const PLAIN: bool;
    /// Begins on a connection that stands: what must be sent first goes to `out`.
    fn begin(&self, state: &mut Self::State, out: &mut Vec<u8>) -> Result<(), StreamError>;
    /// Takes in what has come: what it says goes to `plain`, what must be sent back to `out`.
    fn decode(
        &self,
        state: &mut Self::State,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), StreamError>;
    /// Whether the handshake is done.
    fn ready(&self, state: &Self::State) -> bool;
    /// What must be sent so that the far end hears `plain`.
    fn encode(&self, state: &mut Self::State, plain: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError>;
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl StreamLayer for Plain {
    type State = ();
    const PLAIN: bool = true;

    fn begin(&self, (): &mut (), _: &mut Vec<u8>) -> Result<(), StreamError> {
        Ok(())
    }

    fn decode(&self, (): &mut (), _: &[u8], _: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<(), StreamError> {
        Ok(())
    }

    fn ready(&self, (): &()) -> bool {
        true
    }

    fn encode(&self, (): &mut (), _: &[u8], _: &mut Vec<u8>) -> Result<(), StreamError> {
        Ok(())
    }
}
