//! One row per request, written beside the run: `--log FILE.csv`.
//!
//! Method: workers fill chunks of rows and hand them to a writer thread. Where the writer cannot follow, whole chunks
//! are dropped and counted: the measurement never waits for a disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::tally::Outcome;

const CHUNK: usize = 4096;
/// Chunks on their way: 64 x 4096 rows are about 1 s at 250 k/s.
const ON_THE_WAY: usize = 64;
const HEAD: &str = "due_ns,sent_ns,answered_ns,outcome,flow\n";

/// What became of one request; times in ns since the counted beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// When it was due.
    pub due: u64,
    /// When it left.
    pub sent: Option<u64>,
    /// When its answer came.
    pub answered: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Over which flow.
    pub flow: u32,
    /// Which request of the flow.
    pub index: u32,
}

/// A worker's end: collects rows into chunks.
#[derive(Debug)]
pub struct Pen {
    chunk: Vec<Row>,
    to: SyncSender<Vec<Row>>,
    dropped: u64,
}

impl Pen {
    /// Notes a row.
    pub fn write(&mut self, row: Row) {
        self.chunk.push(row);
        if self.chunk.len() == CHUNK {
            self.flush(false);
        }
    }

    fn flush(&mut self, wait: bool) {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let rows = chunk.len() as u64;
        let handed = if wait { self.to.send(chunk).is_ok() } else { self.to.try_send(chunk).is_ok() };
        if !handed {
            self.dropped += rows;
        }
    }

    /// Hands over the last rows; returns how many rows were dropped in all.
    #[must_use]
    pub fn close(mut self) -> u64 {
        self.flush(true);
        self.dropped
    }
}

/// The writer thread and its file.
#[derive(Debug)]
pub struct Log {
    from_workers: SyncSender<Vec<Row>>,
    writer: JoinHandle<io::Result<()>>,
}

impl Log {
    /// Creates the file and begins to write.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(HEAD.as_bytes())?;
        let (from_workers, rows) = sync_channel(ON_THE_WAY);
        let writer = std::thread::Builder::new().name("flatout-log".into()).spawn(move || write_all(file, &rows))?;
        Ok(Self { from_workers, writer })
    }

    /// A pen for one worker.
    #[must_use]
    pub fn pen(&self) -> Pen {
        Pen { chunk: Vec::with_capacity(CHUNK), to: self.from_workers.clone(), dropped: 0 }
    }

    /// Waits until all is written. Call it after all pens are closed. The error is the first that writing met.
    pub fn close(self) -> io::Result<()> {
        drop(self.from_workers);
        self.writer.join().unwrap_or_else(|_| Err(io::Error::other("the log's writer ended early")))
    }
}

fn write_all(mut file: BufWriter<File>, chunks: &Receiver<Vec<Row>>) -> io::Result<()> {
    let mut outcome = Ok(());
    while let Ok(chunk) = chunks.recv() {
        // After an error the rows are still taken, so that workers are not held up.
        if outcome.is_ok() {
            outcome = chunk.iter().try_for_each(|row| write_row(&mut file, row));
        }
    }
    outcome.and_then(|()| file.flush())
}

fn write_row(file: &mut impl Write, row: &Row) -> io::Result<()> {
    write!(file, "{},", row.due)?;
    write_time(file, row.sent)?;
    write_time(file, row.answered)?;
    writeln!(file, "{},{}", row.outcome.word(), row.flow)
}

fn write_time(file: &mut impl Write, time: Option<u64>) -> io::Result<()> {
    match time {
        Some(ns) => write!(file, "{ns},"),
        None => file.write_all(b","),
    }
}
