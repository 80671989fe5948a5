//! What a serving thread does when the call that it depends on fails: it waits, tries again, and gives up in the end.

use std::fmt::Display;
use std::time::Duration;

/// Failures in a row after which a thread gives up: 0.2 s.
pub(crate) const TRIES: u32 = 20;
/// The pause after each, so that a lasting error takes no CPU time; tests need none.
const PAUSE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_millis(10) };

/// The failures in a row of one thread's call.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    last: String,
}

impl Backoff {
    /// Whether the thread should go on.
    #[inline]
    pub(crate) fn goes_on(&self) -> bool {
        self.failures < TRIES
    }

    /// What the call returned; after a failure it pauses, and nothing was received.
    #[inline]
    pub(crate) fn tried<T: Default, E: Display>(&mut self, result: Result<T, E>) -> T {
        match result {
            Ok(got) => {
                self.failures = 0;
                got
            }
            Err(error) => {
                self.failed(&error);
                T::default()
            }
        }
    }

    #[cold]
    fn failed(&mut self, error: &dyn Display) {
        self.failures += 1;
        self.last = error.to_string();
        std::thread::sleep(PAUSE);
    }

    /// How the thread ends. Errors: the last call failed; the text names it.
    pub(crate) fn end(self) -> Result<(), String> {
        if self.failures > 0 { Err(self.last) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_keeps_failing_ends_the_thread_with_its_error() {
        let mut backoff = Backoff::default();
        let mut tries = 0;
        while backoff.goes_on() {
            tries += 1;
            assert_eq!(backoff.tried(Err::<usize, _>("recvmsg: Operation not permitted")), 0);
        }
        assert_eq!((tries, backoff.end()), (TRIES, Err("recvmsg: Operation not permitted".to_owned())));
    }

    #[test]
    fn a_success_forgets_what_failed_before() {
        let mut backoff = Backoff::default();
        backoff.tried(Err::<usize, _>("x"));
        assert_eq!(backoff.tried(Ok::<_, String>(3)), 3);
        assert_eq!(backoff.end(), Ok(()));
    }
}
