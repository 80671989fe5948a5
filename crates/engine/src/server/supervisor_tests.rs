//! Workers that end, panic and stall: each is replaced once, and counted; one that never worked ends the server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

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
        let (stop, failures, replacements) = (Arc::default(), Arc::default(), Arc::default());
        let published = Arc::new(Mutex::new(vec![Vec::new()]));
        let starts = Arc::<AtomicUsize>::default();
        let mut supervisor = Supervisor::new(
            Arc::clone(&stop),
            Arc::clone(&published),
            Arc::clone(&failures),
            Arc::clone(&replacements),
        );
        let counted = Arc::clone(&starts);
        let work = Arc::new(work);
        let make = move || {
            let (counted, work) = (Arc::clone(&counted), Arc::clone(&work));
            Box::new(move |post: &Post, published: &Published<Served>, drops: u64| {
                published.publish(&Served { kernel_drops: 5 - drops.min(5), ..Served::default() });
                work(counted.fetch_add(1, Ordering::Relaxed), post)
            }) as Box<Work>
        };
        supervisor.start(0, None, Box::new(make)).unwrap();
        let watcher = thread::spawn(move || supervisor.watch());
        Self { stop, published, failures, replacements, starts, watcher }
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
