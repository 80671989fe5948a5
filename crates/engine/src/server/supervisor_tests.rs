//! Workers that end, panic and stall: each is replaced once, and counted; one that never worked ends the server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

use std::sync::atomic::AtomicUsize;

use super::*;

/// One worker that behaves as `work` says when it is started for the n-th time, from 0.
struct Rig {
    stop: Arc<AtomicBool>,
    published: Arc<AllPublished>,
    failures: Arc<Mutex<Vec<String>>>,
    replacements: Arc<Replacements>,
    starts: Arc<AtomicUsize>,
    watcher: JoinHandle<()>,
}

impl Rig {
    fn begin(work: impl Fn(usize, &Post) -> Result<(), String> + Send + Sync + 'static) -> Self {
        let (supervisor, starts) = supervisor(work);
        Self {
            stop: Arc::clone(&supervisor.stop),
            published: Arc::clone(&supervisor.published),
            failures: Arc::clone(&supervisor.failures),
            replacements: Arc::clone(&supervisor.replacements),
            starts,
            watcher: thread::spawn(move || supervisor.watch()),
        }
    }

    /// Waits until a worker was started so often, then stops it all.
    fn end_after(self, starts: usize) -> (u64, String, Vec<String>, u64) {
        while self.starts.load(Ordering::Relaxed) < starts {
            thread::yield_now();
        }
        // The count follows the start.
        while self.replacements.count.load(Ordering::Relaxed) + 1 < starts as u64 {
            thread::yield_now();
        }
        self.end()
    }

    fn end(self) -> (u64, String, Vec<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.join().unwrap();
        let (last, failures) = (lock(&self.replacements.last).clone(), lock(&self.failures).clone());
        let drops = lock(&self.published)[0].iter().map(|published| published.read().kernel_drops).sum();
        (self.replacements.count.load(Ordering::Relaxed), last, failures, drops)
    }
}

/// With such a worker, and how often it was started.
fn supervisor(
    work: impl Fn(usize, &Post) -> Result<(), String> + Send + Sync + 'static,
) -> (Supervisor, Arc<AtomicUsize>) {
    let published = Arc::new(Mutex::new(vec![Vec::new()]));
    let mut supervisor = Supervisor::new(Arc::default(), published, Arc::default(), Arc::default());
    let starts = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&starts);
    let work = Arc::new(work);
    let make = move || {
        let (counted, work) = (Arc::clone(&counted), Arc::clone(&work));
        Box::new(move |post: &Post, published: &Published<Served>, drops: u64| {
            published.publish(&Served { kernel_drops: 5 - drops.min(5), received: 1, ..Served::default() });
            work(counted.fetch_add(1, Ordering::Relaxed), post)
        }) as Box<Work>
    };
    supervisor.start(0, None, Box::new(make)).unwrap();
    (supervisor, starts)
}

fn until_stopped(post: &Post) -> Result<(), String> {
    while post.goes_on() {
        thread::yield_now();
    }
    Ok(())
}

#[test]
fn one_that_panics_is_replaced() {
    let rig = Rig::begin(|start, post| {
        assert!(start > 0, "a bad packet");
        until_stopped(post)
    });
    let (count, last, failures, drops) = rig.end_after(2);
    assert_eq!((count, last.as_str(), failures), (1, "it panicked: a bad packet", vec![]));
    assert_eq!(drops, 5, "the socket's drops are counted once");
}

#[test]
fn one_that_stalls_is_replaced_and_leaves_when_it_moves_again() {
    let stuck = Arc::new(AtomicBool::new(true));
    let (held, left) = (Arc::clone(&stuck), Arc::<AtomicBool>::default());
    let leaves = Arc::clone(&left);
    let rig = Rig::begin(move |start, post| {
        while start == 0 && held.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let ended = until_stopped(post);
        leaves.fetch_or(start == 0, Ordering::Relaxed);
        ended
    });
    while rig.replacements.count.load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
    stuck.store(false, Ordering::Relaxed);
    while !left.load(Ordering::Relaxed) {
        thread::yield_now();
    }
    let (count, last, failures, _) = rig.end_after(2);
    assert!(count >= 1 && last == "it stalled" && failures.is_empty(), "{count} {last} {failures:?}");
}

#[test]
fn one_that_worked_and_then_fails_is_replaced() {
    let rig = Rig::begin(|start, post| {
        if start > 0 {
            return until_stopped(post);
        }
        for _ in 0..=WORKED {
            post.goes_on();
        }
        Err("recvmmsg: Network is down".into())
    });
    let (count, last, failures, _) = rig.end_after(2);
    assert_eq!((count, last.as_str(), failures), (1, "recvmmsg: Network is down", vec![]));
}

#[test]
fn one_that_never_worked_ends_the_server() {
    let rig = Rig::begin(|_, post| {
        post.goes_on();
        Err("recvmsg: Operation not permitted".into())
    });
    while lock(&rig.failures).is_empty() {
        thread::yield_now();
    }
    let (count, _, failures, _) = rig.end();
    assert_eq!((count, failures), (0, vec!["recvmsg: Operation not permitted".to_owned()]));
}

impl Supervisor {
    /// Looks so often, each time once the only worker has ended or is at work.
    fn looks(&mut self, looks: u32, mut ready: impl FnMut(&Watched) -> bool) -> u64 {
        for _ in 0..looks {
            while !ready(&self.watched[0]) {
                thread::yield_now();
            }
            self.look();
        }
        self.replacements.count.load(Ordering::Relaxed)
    }
}

#[test]
fn one_that_ends_at_once_is_replaced_more_and_more_seldom() {
    let (mut supervisor, starts) = supervisor(|_, _| panic!("a bad packet"));
    let ended = |watched: &Watched| watched.thread.as_ref().is_none_or(JoinHandle::is_finished);
    // After 1, 2, 4, 8, 16, 32, 64 looks, and then each 100.
    assert_eq!(supervisor.looks(127 + 2 * PAUSE_MOST, ended), 9);
    let all: Vec<_> = lock(&supervisor.published)[0].iter().map(|published| published.read()).collect();
    assert!(all.len() <= 2, "the sum of those that ended, and the last one: {}", all.len());
    supervisor.looks(1, ended);
    let ended = supervisor.watched[0].ended.read();
    assert_eq!((starts.load(Ordering::Relaxed), ended.received), (10, 10));
    assert_eq!(ended.kernel_drops, 5, "drops are counted once");
}

#[test]
fn one_that_has_lived_long_is_replaced_at_once() {
    let mut pauses = Pauses { next: 1 };
    assert_eq!([0; 9].map(|lived| pauses.after(lived)), [1, 2, 4, 8, 16, 32, 64, 100, 100]);
    assert_eq!([LIVED - 1, LIVED, 0].map(|lived| pauses.after(lived)), [100, 1, 2]);
}

#[test]
fn a_successor_that_stalls_too_is_not_replaced_before_the_first_has_ended() {
    let free = Arc::<AtomicUsize>::default();
    let held = Arc::clone(&free);
    let (mut supervisor, starts) = supervisor(move |start, _| {
        while held.load(Ordering::Relaxed) <= start {
            thread::yield_now();
        }
        Ok(())
    });
    let started = |count: usize| {
        while starts.load(Ordering::Relaxed) < count {
            thread::yield_now();
        }
    };
    started(1);
    assert_eq!(supervisor.looks(10 * STALLED, |_| true), 1);
    started(2);
    free.store(1, Ordering::Relaxed);
    while !supervisor.stalled.iter().all(|stalled| stalled.thread.is_finished()) {
        thread::yield_now();
    }
    assert_eq!(supervisor.looks(1, |_| true), 2, "the first has ended, and the second does not move");
    started(3);
    free.store(3, Ordering::Relaxed);
    assert!(lock(&supervisor.failures).is_empty());
}

#[test]
fn one_that_is_given_up_lets_go_of_its_sockets() {
    let socket = Arc::new(());
    let held = Arc::clone(&socket);
    let (mut supervisor, _) = supervisor(move |_, _| {
        let _ = &held;
        Err("recvmsg: Operation not permitted".into())
    });
    assert_eq!(Arc::strong_count(&socket), 2);
    supervisor.looks(2, |watched| watched.thread.as_ref().is_none_or(JoinHandle::is_finished));
    assert_eq!((Arc::strong_count(&socket), lock(&supervisor.failures).len()), (1, 1));
}
