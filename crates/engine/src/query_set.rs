//! What is asked about: the lines of a query file, compiled before the run, and walked by every worker from a place of
//! its own.
//!
//! Method: the file is read line by line and never held as text. Subjects lie one after another in one run of bytes,
//! each behind its length (u16, little endian); an offset names one. Where every 4096th begins is kept, so that a
//! cursor finds its place without walking over millions.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flatout_wire::{Protocol, QUERY_LEN_MAX};

use crate::text_file;

/// Length of a subject's length.
const HEAD: usize = 2;
/// No line of a query file is longer (bytes): a name with every byte escaped takes a quarter of it.
const LINE_MAX: u64 = 4096;
const BUFFER: usize = 1 << 18;
/// Subjects between two marks.
const MARK: usize = 4096;

/// Compiled subjects. The empty one is for protocols without.
#[derive(Debug, Default)]
pub struct QuerySet {
    arena: Vec<u8>,
    marks: Vec<u32>,
    count: usize,
}

impl QuerySet {
    /// Compiles a file, or `lines` where there is none.
    ///
    /// Neither: the empty query set. Errors name the line; a file without a query is an error.
    pub fn compile<P: Protocol>(lines: &[String], file: Option<&Path>) -> io::Result<Arc<Self>> {
        let mut query_set = Self::default();
        match file {
            Some(path) => query_set.read::<P>(path)?,
            None => {
                for (n, line) in lines.iter().enumerate() {
                    query_set.add::<P>(line.as_bytes()).map_err(|why| invalid(format!("query {}: {why}", n + 1)))?;
                }
                if query_set.count == 0 && !lines.is_empty() {
                    return Err(invalid("no queries".into()));
                }
            }
        }
        query_set.arena.shrink_to_fit();
        Ok(Arc::new(query_set))
    }

    fn read<P: Protocol>(&mut self, path: &Path) -> io::Result<()> {
        let name = path.display();
        let broken = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let file = BufReader::with_capacity(BUFFER, File::open(path).map_err(broken)?);
        let mut reader = text_file::unmarked(file).map_err(broken)?;
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let length = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(broken)?;
            if length == 0 {
                break;
            }
            let added = if length as u64 == LINE_MAX && !line.ends_with(b"\n") {
                Err("expected a shorter line".to_owned())
            } else {
                self.add::<P>(&line)
            };
            added.map_err(|why| invalid(format!("{name}, line {number}: {why}")))?;
        }
        if self.count == 0 { Err(invalid(format!("{name}: no queries in it"))) } else { Ok(()) }
    }

    fn add<P: Protocol>(&mut self, line: &[u8]) -> Result<(), String> {
        let mut query = [0; QUERY_LEN_MAX];
        let length = P::compile(line, &mut query).map_err(|bad| format!("expected {}", bad.expected))?;
        let Some(query) = query.get(..length).filter(|query| !query.is_empty()) else { return Ok(()) };
        let offset = u32::try_from(self.arena.len()).map_err(|_| "too many queries: 4 GiB of them".to_owned())?;
        if self.count.is_multiple_of(MARK) {
            self.marks.push(offset);
        }
        self.arena.extend_from_slice(&(length as u16).to_le_bytes());
        self.arena.extend_from_slice(query);
        self.count += 1;
        Ok(())
    }

    /// How many subjects there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The memory that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.capacity() + self.marks.capacity() * size_of::<u32>()
    }

    /// The subject that a cursor has named; the empty one for an offset that none has.
    #[must_use]
    pub fn query(&self, offset: u32) -> &[u8] {
        let remaining = self.arena.get(offset as usize..).unwrap_or_default();
        match remaining.split_first_chunk::<HEAD>() {
            Some((length, remaining)) => remaining.get(..u16::from_le_bytes(*length).into()).unwrap_or_default(),
            None => &[],
        }
    }

    /// Where subject `nth` begins.
    fn offset(&self, nth: usize) -> u32 {
        let mut offset = self.marks.get(nth / MARK).copied().unwrap_or(0);
        for _ in 0..nth % MARK {
            offset = self.after(offset);
        }
        offset
    }

    /// Where the next one begins; behind the last is the first.
    fn after(&self, offset: u32) -> u32 {
        let next = offset as usize + HEAD + self.query(offset).len();
        if next < self.arena.len() { next as u32 } else { 0 }
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// A worker's position in a query set, which it repeats.
#[derive(Clone, Debug)]
pub struct Cursor {
    query_set: Arc<QuerySet>,
    next: u32,
}

impl Cursor {
    /// Begins at share `share` of `of` equal ones, counted from 0.
    #[must_use]
    pub fn new(query_set: Arc<QuerySet>, share: usize, of: usize) -> Self {
        // Wide enough for any share of any number of subjects.
        let nth = query_set.count as u128 * share as u128 / of.max(1) as u128;
        let next = query_set.offset(nth as usize % query_set.count.max(1));
        Self { query_set, next }
    }

    /// Which subject is next; 0 where there are none.
    #[allow(clippy::should_implement_trait, reason = "it never ends, and gives no Option")]
    pub fn next(&mut self) -> u32 {
        let offset = self.next;
        self.next = self.query_set.after(offset);
        offset
    }

    /// The subject at an offset that came from here.
    #[must_use]
    pub fn query(&self, offset: u32) -> &[u8] {
        self.query_set.query(offset)
    }
}
