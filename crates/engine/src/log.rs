//! One row per request, written beside the run: `--log FILE.csv`.
//!
//! Method: workers fill chunks of rows and hand them to a writer thread. Where the writer cannot follow, whole chunks
//! are dropped and counted: the measurement never waits for a disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::generator::start_barrier::{Begin, StartBarrier};
use crate::tally::Outcome;
use crate::thread_group::ThreadGroup;

const CHUNK: usize = 4096;
/// Chunks on their way: 64 x 4096 rows are about 1 s at 250 k/s.
const ON_THE_WAY: usize = 64;

/// What rows look like.
#[derive(Clone, Debug)]
pub enum Form {
    /// Every request and how it ended, times in ns since the counted beginning.
    Flatout,
    /// A row for every query sent and one for every answer, as tcpscaler's clients write them with `-R`: the time in s
    /// since 1970, the round trip in µs from when the query left.
    Tcpscaler(Arc<StartBarrier>, RunClock),
}

/// What turns times since the counted beginning into those of the calendar.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    /// Unix time minus the run's clock, ns.
    pub unix_offset: u64,
    /// How long after the schedule's beginning counting begins, ns.
    pub warmup: u64,
}

impl Form {
    fn head(&self) -> &'static str {
        match self {
            Self::Flatout => "due_ns,sent_ns,answered_ns,outcome,flow\n",
            Self::Tcpscaler(..) => "type,timestamp,connection_id,query_id,poisson_id,poisson_interval_us,rtt_us\n",
        }
    }

    fn write(&self, file: &mut impl Write, row: &Row) -> io::Result<()> {
        match self {
            Self::Flatout => write_row(file, row),
            Self::Tcpscaler(barrier, clock) => {
                let Begin::At(begin) = barrier.begin() else { return Ok(()) };
                write_tcpscaler(file, row, begin + clock.warmup + clock.unix_offset)
            }
        }
    }
}

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
pub struct LogWriter {
    chunk: Vec<Row>,
    to: SyncSender<Vec<Row>>,
    dropped: u64,
}

impl LogWriter {
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
    writer: ThreadGroup<io::Result<()>>,
}

impl Log {
    /// Creates the file and begins to write.
    pub fn create(path: &Path, form: Form) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(form.head().as_bytes())?;
        let (from_workers, rows) = sync_channel(ON_THE_WAY);
        let mut writer = ThreadGroup::default();
        writer.start("flatout-log", move || write_all(file, &rows, form))?;
        Ok(Self { from_workers, writer })
    }

    /// A pen for one worker.
    #[must_use]
    pub fn log_writer(&self) -> LogWriter {
        LogWriter { chunk: Vec::with_capacity(CHUNK), to: self.from_workers.clone(), dropped: 0 }
    }

    /// Waits until all is written. Call it after all pens are closed. The error is the first that writing met.
    pub fn close(mut self) -> io::Result<()> {
        drop(self.from_workers);
        self.writer.join().pop().unwrap_or_else(|| Err(io::Error::other("the log's writer ended early")))
    }
}

fn write_all(mut file: BufWriter<File>, chunks: &Receiver<Vec<Row>>, form: Form) -> io::Result<()> {
    let mut outcome = Ok(());
    while let Ok(chunk) = chunks.recv() {
        // After an error the rows are still taken, so that workers are not held up.
        if outcome.is_ok() {
            outcome = chunk.iter().try_for_each(|row| form.write(&mut file, row));
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

fn write_tcpscaler(file: &mut impl Write, row: &Row, from_unix_ns: u64) -> io::Result<()> {
    let Some(sent) = row.sent else { return Ok(()) };
    let (connection, query) = (row.flow, row.index & 0xffff);
    let time = |since: u64| {
        let unix = from_unix_ns + since;
        (unix / 1_000_000_000, unix % 1_000_000_000)
    };
    let (s, ns) = time(sent);
    writeln!(file, "Q,{s}.{ns:09},{connection},{query},0,,")?;
    let Some(answered) = row.answered.filter(|_| row.outcome != Outcome::Refused) else { return Ok(()) };
    let (s, ns) = time(answered);
    writeln!(file, "A,{s}.{ns:09},{connection},{query},,,{}", answered.saturating_sub(sent) / 1_000)
}
