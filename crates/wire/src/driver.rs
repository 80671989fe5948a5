//! What a program in the network driver is given to answer from: words that change, and a table.

/// How many words a program in the network driver is given of an answer.
pub const DRIVER_WORDS: usize = 4;

/// What a program in the network driver answers from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverState {
    /// As the protocol's program reads them, bytes in this machine's order.
    pub words: [u64; DRIVER_WORDS],
    /// The time to give minus the system clock, ns.
    pub offset_ns: i64,
}

/// An entry of the answer table as a program in the network driver has it: key and value of a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverEntry {
    /// What is asked for.
    pub key: [u8; DRIVER_KEY],
    /// What is answered.
    pub value: [u8; DRIVER_VALUE],
}

/// Bytes of a key and of a value of such a program's table.
pub const DRIVER_KEY: usize = 68;
/// The same of a value.
pub const DRIVER_VALUE: usize = 512;

/// Object files are read where they are, as words.
#[repr(align(32))]
pub(crate) struct Aligned<T: ?Sized>(pub(crate) T);
