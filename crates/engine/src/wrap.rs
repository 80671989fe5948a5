//! What lies between a connection's bytes and a protocol's: nothing, or TLS.

/// Why a connection cannot go on, in words.
pub type Trouble = String;

/// Wraps what is said on connections and unwraps what is heard.
pub trait Wrap {
    /// Kept for each connection; the default one belongs to no connection yet.
    type State: Default;
    /// Whether bytes pass as they are: then nothing below is called.
    const PLAIN: bool;
    /// Begins on a connection that stands: what must be sent first goes to `out`.
    fn begin(&self, state: &mut Self::State, out: &mut Vec<u8>) -> Result<(), Trouble>;
    /// Takes in what has come: what it says goes to `plain`, what must be sent back to `out`.
    fn hear(
        &self,
        state: &mut Self::State,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Trouble>;
    /// Whether the handshake is done.
    fn ready(&self, state: &Self::State) -> bool;
    /// What must be sent so that the far end hears `plain`.
    fn say(&self, state: &mut Self::State, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Trouble>;
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Wrap for Plain {
    type State = ();
    const PLAIN: bool = true;

    fn begin(&self, (): &mut (), _: &mut Vec<u8>) -> Result<(), Trouble> {
        Ok(())
    }

    fn hear(&self, (): &mut (), _: &[u8], _: &mut Vec<u8>, _: &mut Vec<u8>) -> Result<(), Trouble> {
        Ok(())
    }

    fn ready(&self, (): &()) -> bool {
        true
    }

    fn say(&self, (): &mut (), _: &[u8], _: &mut Vec<u8>) -> Result<(), Trouble> {
        Ok(())
    }
}
