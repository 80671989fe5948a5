//! Receive buffers: lent to safe code, given back on drop.

/// A buffer on loan.
#[derive(Debug)]
pub(crate) struct Loan {
    bytes: Vec<u8>,
}

impl Loan {
    /// Bytes of one's own.
    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What was received.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
