//! What servers answer from: owns the table that the wire's answering ends are lent.

use std::io;

use flatout_wire::Table;

/// Keys and values, laid out once for all workers.
#[derive(Debug, Default)]
pub struct AnswerTable {
    slots: Vec<u32>,
    entries: Vec<u8>,
    longest: usize,
}

impl AnswerTable {
    /// Lays the entries out. Of several with one key the first is found.
    pub fn build(entries: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Self> {
        let too = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let mut bytes = Vec::new();
        for (key, value) in entries {
            let key_length = u16::try_from(key.len()).map_err(|_| too("a key is longer than 65535 bytes"))?;
            let value_length = u32::try_from(value.len()).map_err(|_| too("a value is longer than 4 GiB"))?;
            bytes.extend_from_slice(&key_length.to_le_bytes());
            bytes.extend_from_slice(&value_length.to_le_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        let mut slots = vec![0; Table::slots(entries.len())];
        let longest = Table::build(&mut slots, &bytes).ok_or_else(|| too("more than 4 GiB to answer from"))?;
        Ok(Self { slots, entries: bytes, longest })
    }

    /// The table, to be lent.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.slots, &self.entries, self.longest)
    }

    /// The memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.capacity() + self.slots.capacity() * size_of::<u32>()
    }
}
