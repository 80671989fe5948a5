//! Keeps workers at work: one that ends by an error or a panic, or that no longer moves, is replaced on the same sockets.
//!
//! Method: each turn of a worker's loop counts, and the supervisor looks at these counts. It counts its own looks and
//! reads no clock: a process that was stopped as a whole replaces nobody. The sockets outlive the worker, so what has
//! arrived meanwhile waits in them for the next one. Never on the data path.

use std::any::Any;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Served;
use crate::backoff::TRIES;
use crate::published::{Published, lock};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 50 });
/// Looks without a turn of the loop, after which a worker counts as stalled: 2 s.
const STALLED: u32 = 40;
/// A worker that ended by errors after fewer turns has never received anything: its successor would not either.
const WORKED: u64 = 2 * TRIES as u64;

/// Each worker's counters, of one thread or of several after one another or beside each other.
pub(super) type AllPublished = Mutex<Vec<Vec<Arc<Published<Served>>>>>;

/// What a worker and its supervisor share.
#[derive(Debug)]
pub(crate) struct Post {
    stop: Arc<AtomicBool>,
    replaced: AtomicBool,
    turns: AtomicU64,
}

impl Post {
    /// One at which a worker works until `stop`.
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Self {
        Self { stop, replaced: AtomicBool::new(false), turns: AtomicU64::new(0) }
    }

    /// Whether the worker goes on; each call is a sign of life.
    #[inline]
    pub(crate) fn goes_on(&self) -> bool {
        // Written by the worker alone: no need for an atomic addition.
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        !self.replaced.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed)
    }
}

/// How many workers were replaced, and why the last one was.
#[derive(Debug, Default)]
pub(super) struct Replacements {
    pub(super) count: AtomicU64,
    pub(super) last: Mutex<String>,
}

/// What a worker does until it is stopped. The last argument: the kernel's drops that earlier workers have counted.
pub(super) type Work = dyn FnOnce(&Post, &Published<Served>, u64) -> Result<(), String> + Send;
/// Makes a worker, and its successors.
pub(super) type MakeWork = dyn Fn() -> Box<Work> + Send;

struct Watched {
    worker: usize,
    cpu: Option<usize>,
    make: Box<MakeWork>,
    post: Arc<Post>,
    /// None where it could not be started, or was given up.
    thread: Option<JoinHandle<Result<(), String>>>,
    turns: u64,
    still: u32,
    given_up: bool,
}

/// Threads, and what they leave.
pub(super) struct Supervisor {
    stop: Arc<AtomicBool>,
    published: Arc<AllPublished>,
    failures: Arc<Mutex<Vec<String>>>,
    replacements: Arc<Replacements>,
    watched: Vec<Watched>,
    /// Replaced while they did not move.
    stalled: Vec<JoinHandle<Result<(), String>>>,
}

impl Supervisor {
    pub(super) fn new(
        stop: Arc<AtomicBool>,
        published: Arc<AllPublished>,
        failures: Arc<Mutex<Vec<String>>>,
        replacements: Arc<Replacements>,
    ) -> Self {
        Self { stop, published, failures, replacements, watched: Vec::new(), stalled: Vec::new() }
    }

    /// Starts worker number `worker`. Errors: no threads left.
    pub(super) fn start(&mut self, worker: usize, cpu: Option<usize>, make: Box<MakeWork>) -> io::Result<()> {
        let post = Arc::new(Post::new(Arc::clone(&self.stop)));
        let thread = self.spawn(worker, cpu, make(), Arc::clone(&post))?;
        let watched = Watched { worker, cpu, make, post, thread: Some(thread), turns: 0, still: 0, given_up: false };
        self.watched.push(watched);
        Ok(())
    }

    fn spawn(
        &self,
        worker: usize,
        cpu: Option<usize>,
        work: Box<Work>,
        post: Arc<Post>,
    ) -> io::Result<JoinHandle<Result<(), String>>> {
        let published = Arc::<Published<Served>>::default();
        let theirs = Arc::clone(&published);
        let counted = {
            let mut all = lock(&self.published);
            let of_worker = &mut all[worker];
            let counted = of_worker.iter().map(|earlier| earlier.read().kernel_drops).sum();
            of_worker.push(published);
            counted
        };
        thread::Builder::new().name("flatout-serve".into()).spawn(move || {
            if let Some(cpu) = cpu {
                // A CPU that has gone since the plan was made: the scheduler's choice will do.
                let _ = flatout_net::pin(cpu);
            }
            work(&post, &theirs, counted)
        })
    }

    /// Looks after the workers until they are stopped, and waits for them.
    pub(super) fn watch(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::park_timeout(LOOK);
            for n in 0..self.watched.len() {
                if let Some(why) = self.watched[n].trouble() {
                    self.replace(n, why);
                }
            }
            self.stalled.retain(|thread| !thread.is_finished());
        }
        for thread in self.watched.into_iter().filter_map(|watched| watched.thread) {
            // What one that panicked had counted was published before.
            if let Ok(Err(why)) = thread.join() {
                lock(&self.failures).push(why);
            }
        }
    }

    fn replace(&mut self, n: usize, why: Trouble) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        let watched = &mut self.watched[n];
        if let Trouble::Failed(why) = &why
            && watched.post.turns.load(Ordering::Relaxed) <= WORKED
        {
            watched.given_up = true;
            lock(&self.failures).push(why.clone());
            return;
        }
        watched.post.replaced.store(true, Ordering::Relaxed);
        self.stalled.extend(watched.thread.take());
        let post = Arc::new(Post::new(Arc::clone(&self.stop)));
        let (worker, cpu, work) = (watched.worker, watched.cpu, (watched.make)());
        // Where there is no thread to be had the next look tries again.
        let Ok(thread) = self.spawn(worker, cpu, work, Arc::clone(&post)) else { return };
        let watched = &mut self.watched[n];
        (watched.post, watched.thread, watched.turns, watched.still) = (post, Some(thread), 0, 0);
        self.replacements.count.fetch_add(1, Ordering::Relaxed);
        *lock(&self.replacements.last) = why.text();
    }
}

enum Trouble {
    Failed(String),
    Panicked(String),
    Stalled,
    Unstarted,
}

impl Trouble {
    fn text(self) -> String {
        match self {
            Self::Failed(why) => why,
            Self::Panicked(what) => format!("it panicked: {what}"),
            Self::Stalled => "it stalled".into(),
            Self::Unstarted => "there was no thread".into(),
        }
    }
}

impl Watched {
    /// Why this worker has to be replaced; `None`: it works, or was given up.
    fn trouble(&mut self) -> Option<Trouble> {
        if self.given_up {
            return None;
        }
        let Some(thread) = &self.thread else { return Some(Trouble::Unstarted) };
        if thread.is_finished() {
            return match self.thread.take()?.join() {
                Ok(Ok(())) => Some(Trouble::Failed("it ended".into())),
                Ok(Err(why)) => Some(Trouble::Failed(why)),
                Err(panic) => Some(Trouble::Panicked(message(&*panic))),
            };
        }
        let turns = self.post.turns.load(Ordering::Relaxed);
        self.still = if turns == self.turns { self.still + 1 } else { 0 };
        self.turns = turns;
        (self.still >= STALLED).then_some(Trouble::Stalled)
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
