//! How long other threads of this host waited for a CPU: /proc/PID/task/TID/schedstat, read again and again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// At most so many threads are read: one read takes about 1 µs.
const MOST: usize = 64;
/// Three decimal numbers of 64 bits.
const LINE: usize = 64;

/// Threads whose run-queue delay is read.
#[derive(Debug, Default)]
pub struct RunDelay(Vec<(File, u64)>);

impl RunDelay {
    /// Opens the files; those that cannot be opened are left out.
    #[must_use]
    pub fn open(paths: &[PathBuf]) -> Self {
        Self(paths.iter().take(MOST).filter_map(|path| File::open(path).ok()).map(|file| (file, 0)).collect())
    }

    /// Whether there is a thread to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The longest that one of the threads waited for a CPU since the last call, ns; a thread that has ended waits no
    /// more. A wait counts when it is over.
    pub fn since_last(&mut self) -> u64 {
        let mut longest = 0;
        for (file, before) in &mut self.0 {
            if let Some(now) = waited_ns(file) {
                longest = longest.max(now.saturating_sub(*before));
                *before = now;
            }
        }
        longest
    }
}

/// The second number: ns that the thread could run and waited (Documentation/scheduler/sched-stats.rst).
fn waited_ns(file: &File) -> Option<u64> {
    let mut line = [0; LINE];
    let length = file.read_at(&mut line, 0).ok()?;
    std::str::from_utf8(line.get(..length)?).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_cannot_be_read_are_left_out() {
        let mut none = RunDelay::open(&["/proc/self/task/0/schedstat".into()]);
        assert!(none.is_empty());
        assert_eq!(none.since_last(), 0);
    }

    #[test]
    fn the_longest_wait_since_the_last_call() {
        let folder = std::env::temp_dir().join(format!("flatout-run-delay-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let paths = [folder.join("one"), folder.join("two")];
        let write = |one: &str, two: &str| {
            std::fs::write(&paths[0], one).expect("a file");
            std::fs::write(&paths[1], two).expect("a file");
        };
        write("100 20 3\n", "5 900 1\n");
        let mut delay = RunDelay::open(&paths);
        assert_eq!(delay.since_last(), 900);
        assert_eq!(delay.since_last(), 0);
        write("100 70 3\n", "5 930 1\n");
        assert_eq!(delay.since_last(), 50);
        write("", "no numbers");
        assert_eq!(delay.since_last(), 0);
        std::fs::remove_dir_all(folder).expect("a temporary folder");
    }
}
