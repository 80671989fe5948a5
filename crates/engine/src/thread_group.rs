//! Threads that somebody began and waits for: in the process that began them, and in no fork of it.
//!
//! Method: a fork has none of the threads, and whatever one of them held stays locked in it. So nothing is awaited
//! there, no lock is taken, and the handles are forgotten: what they name may by then be another thread.

use std::io;
use std::thread::JoinHandle;

use flatout_net::Process;

/// Threads that end with a `T`.
#[derive(Debug)]
pub(crate) struct ThreadGroup<T> {
    process: Process,
    threads: Vec<JoinHandle<T>>,
}

impl<T> Default for ThreadGroup<T> {
    fn default() -> Self {
        Self { process: Process::this(), threads: Vec::new() }
    }
}

impl<T> ThreadGroup<T> {
    /// Takes in a thread that has just begun.
    pub(crate) fn add(&mut self, thread: JoinHandle<T>) {
        self.threads.push(thread);
    }

    /// Starts another thread. Errors: no threads left.
    pub(crate) fn start(&mut self, name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<()>
    where
        T: Send + 'static,
    {
        self.add(std::thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Whether no thread was added, or all have been joined.
    pub(crate) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Whether this is the process that began them.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// Whether all are still at work.
    pub(crate) fn is_at_work(&self) -> bool {
        self.is_here() && self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Whether none is at work any more.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_here() || self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for all, and returns what those leave that did not panic; nothing in a fork.
    pub(crate) fn join(&mut self) -> Vec<T> {
        if !self.is_here() {
            return Vec::new();
        }
        // There is nothing more to be had from one that panicked; its counters were left before.
        self.threads.drain(..).filter_map(|thread| thread.join().ok()).collect()
    }
}

impl<T> Drop for ThreadGroup<T> {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(std::mem::take(&mut self.threads));
        }
    }
}
