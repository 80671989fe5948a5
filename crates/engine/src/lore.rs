//! What a server answers from: built once before it starts, shared by its workers, lent to every answer.

use std::io;

use flatout_wire::Table;

/// Owns what a [`Table`] borrows.
#[derive(Debug, Default)]
pub struct Lore {
    places: Vec<u32>,
    entries: Vec<u8>,
}

impl Lore {
    /// Lays out these keys and values. Errors: a key of 64 KiB, or more than 4 GiB of them.
    pub fn of(pairs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Self> {
        let much = || io::Error::new(io::ErrorKind::InvalidInput, "more to answer from than fits");
        let mut entries = Vec::with_capacity(pairs.iter().map(|(key, value)| 6 + key.len() + value.len()).sum());
        for (key, value) in pairs {
            entries.extend(u16::try_from(key.len()).map_err(|_| much())?.to_le_bytes());
            entries.extend(u32::try_from(value.len()).map_err(|_| much())?.to_le_bytes());
            entries.extend(key);
            entries.extend(value);
        }
        let mut places = vec![0; Table::places(pairs.len())];
        Table::build(&mut places, &entries).ok_or_else(much)?;
        Ok(Self { places, entries })
    }

    /// To look up in.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.places, &self.entries)
    }
}
