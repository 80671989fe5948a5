//! Keeps workers at work: one that ends by an error or a panic, or that no longer moves, is replaced on the same sockets.
//!
//! Method: each turn of a worker's loop counts, and the supervisor looks at these counts. It counts its own looks and
//! reads no clock: a process that was stopped as a whole replaces nobody. The sockets outlive the worker, so what has
//! arrived meanwhile waits in them for the next one; those of a worker that is given up are closed. Never on the data
//! path.

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
/// Looks between two replacements at most, 5 s, and how long a worker lives whose end is no repetition: 10 s.
const PAUSE_MOST: u32 = 100;
const LIVED: u32 = 200;
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
        !self.is_replaced() && !self.stop.load(Ordering::Relaxed)
    }

    /// Another worker takes its sockets over.
    pub(crate) fn replace(&self) {
        self.replaced.store(true, Ordering::Relaxed);
    }

    /// Whether another worker has taken its sockets over.
    #[inline]
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
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

type Thread = JoinHandle<Result<(), String>>;

struct Watched {
    worker: usize,
    cpu: Option<usize>,
    /// It holds the sockets; `None`: given up.
    make: Option<Box<MakeWork>>,
    post: Arc<Post>,
    /// `None` where it has ended.
    thread: Option<Thread>,
    published: Arc<Published<Served>>,
    /// The sum of what threads before it counted.
    ended: Arc<Published<Served>>,
    /// Looks since it was started, and those of them without a turn.
    lived: u32,
    turns: u64,
    still: u32,
    pauses: Pauses,
    /// Why it is replaced, and after how many looks.
    due: Option<(Trouble, u32)>,
}

/// How long a worker that ends again and again is not replaced.
struct Pauses {
    next: u32,
}

impl Pauses {
    /// Looks until the replacement of one that has lived for so many.
    fn after(&mut self, lived: u32) -> u32 {
        let pause = if lived >= LIVED { 1 } else { self.next };
        self.next = (2 * pause).min(PAUSE_MOST);
        pause
    }
}

/// A thread that was replaced while it did not move.
struct Stalled {
    /// Its place in `watched`.
    of: usize,
    thread: Thread,
    published: Arc<Published<Served>>,
}

/// Threads, and what they leave.
pub(super) struct Supervisor {
    stop: Arc<AtomicBool>,
    published: Arc<AllPublished>,
    failures: Arc<Mutex<Vec<String>>>,
    replacements: Arc<Replacements>,
    watched: Vec<Watched>,
    stalled: Vec<Stalled>,
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
        let (thread, published) = self.spawn(worker, cpu, make(), Arc::clone(&post))?;
        let ended = Arc::<Published<Served>>::default();
        lock(&self.published)[worker].push(Arc::clone(&ended));
        self.watched.push(Watched {
            worker,
            cpu,
            make: Some(make),
            post,
            thread: Some(thread),
            published,
            ended,
            lived: 0,
            turns: 0,
            still: 0,
            pauses: Pauses { next: 1 },
            due: None,
        });
        Ok(())
    }

    fn spawn(
        &self,
        worker: usize,
        cpu: Option<usize>,
        work: Box<Work>,
        post: Arc<Post>,
    ) -> io::Result<(Thread, Arc<Published<Served>>)> {
        let published = Arc::<Published<Served>>::default();
        let theirs = Arc::clone(&published);
        let counted = lock(&self.published)[worker].iter().map(|earlier| earlier.read().kernel_drops).sum();
        let thread = thread::Builder::new().name("flatout-serve".into()).spawn(move || {
            if let Some(cpu) = cpu {
                // A CPU that has gone since the plan was made: the scheduler's choice will do.
                let _ = flatout_net::pin(cpu);
            }
            work(&post, &theirs, counted)
        })?;
        lock(&self.published)[worker].push(Arc::clone(&published));
        Ok((thread, published))
    }

    /// Looks after the workers until they are stopped, and waits for them.
    pub(super) fn watch(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::park_timeout(LOOK);
            self.look();
        }
        for thread in self.watched.into_iter().filter_map(|watched| watched.thread) {
            // What one that panicked had counted was published before.
            if let Ok(Err(why)) = thread.join() {
                lock(&self.failures).push(why);
            }
        }
    }

    fn look(&mut self) {
        while let Some(at) = self.stalled.iter().position(|stalled| stalled.thread.is_finished()) {
            let stalled = self.stalled.swap_remove(at);
            self.add_up(stalled.of, &stalled.published);
        }
        for n in 0..self.watched.len() {
            if self.watched[n].due.is_none() {
                self.examine(n);
            }
            match self.watched[n].due.take() {
                Some((why, 0)) => self.replace(n, why),
                due => self.watched[n].due = due.map(|(why, looks)| (why, looks - 1)),
            }
        }
    }

    /// Decides whether a worker is to be replaced, and when.
    fn examine(&mut self, n: usize) {
        let watched = &mut self.watched[n];
        let Some(why) = watched.trouble() else { return };
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        match why {
            // Two threads that do not move: a third would not either.
            Trouble::Stalled if self.stalled.iter().any(|stalled| stalled.of == n) => {}
            Trouble::Stalled => watched.due = Some((why, 0)),
            Trouble::Failed(why) if watched.post.turns.load(Ordering::Relaxed) <= WORKED => {
                watched.make = None;
                lock(&self.failures).push(why);
            }
            Trouble::Failed(_) | Trouble::Panicked(_) => {
                watched.due = Some((why, watched.pauses.after(watched.lived) - 1));
                let ended = Arc::clone(&watched.published);
                self.add_up(n, &ended);
            }
        }
    }

    /// Adds what a thread that has ended counted to the sum of those before it, so that their number may grow.
    fn add_up(&self, n: usize, counted: &Arc<Published<Served>>) {
        let watched = &self.watched[n];
        // Who reads the counters meanwhile waits.
        let mut all = lock(&self.published);
        all[watched.worker].retain(|published| !Arc::ptr_eq(published, counted));
        let mut sum = watched.ended.read();
        sum += &counted.read();
        watched.ended.publish(&sum);
    }

    fn replace(&mut self, n: usize, why: Trouble) {
        let watched = &mut self.watched[n];
        let Some(make) = watched.make.as_ref().filter(|_| !self.stop.load(Ordering::Relaxed)) else { return };
        watched.post.replace();
        if let Some(thread) = watched.thread.take() {
            self.stalled.push(Stalled { of: n, thread, published: Arc::clone(&watched.published) });
        }
        let post = Arc::new(Post::new(Arc::clone(&self.stop)));
        let (worker, cpu, work) = (watched.worker, watched.cpu, make());
        let spawned = self.spawn(worker, cpu, work, Arc::clone(&post));
        let watched = &mut self.watched[n];
        let Ok((thread, published)) = spawned else {
            // There are no threads to be had.
            watched.due = Some((why, watched.pauses.after(0) - 1));
            return;
        };
        (watched.post, watched.thread, watched.published) = (post, Some(thread), published);
        (watched.lived, watched.turns, watched.still) = (0, 0, 0);
        self.replacements.count.fetch_add(1, Ordering::Relaxed);
        *lock(&self.replacements.last) = why.text();
    }
}

enum Trouble {
    Failed(String),
    Panicked(String),
    Stalled,
}

impl Trouble {
    fn text(self) -> String {
        match self {
            Self::Failed(why) => why,
            Self::Panicked(what) => format!("it panicked: {what}"),
            Self::Stalled => "it stalled".into(),
        }
    }
}

impl Watched {
    /// Why this worker has to be replaced; `None`: it works, or was given up.
    fn trouble(&mut self) -> Option<Trouble> {
        self.lived = self.lived.saturating_add(1);
        if self.thread.as_ref()?.is_finished() {
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
