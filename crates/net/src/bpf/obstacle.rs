//! Why the kernel takes no program, told apart for the user: an errno alone does not say what to do.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;

const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// What kind of obstacle it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// This process may not load programs; root may.
    NotPermitted,
    /// The kernel does not describe its types.
    NoBtf,
    /// The kernel is locked down.
    Lockdown,
    /// The capabilities are there, and something else refuses.
    Forbidden,
    /// The kernel has no BPF, or no such tracepoint, or an older form of it.
    Unsupported,
    /// Anything else.
    Failed,
}

impl Obstacle {
    /// A stable word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotPermitted => "not-permitted",
            Self::NoBtf => "no-btf",
            Self::Lockdown => "lockdown",
            Self::Forbidden => "forbidden",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

/// A program that could not be started.
#[derive(Clone, Debug)]
pub struct BpfError {
    /// The kind of obstacle.
    pub obstacle: Obstacle,
    /// One sentence for the user.
    pub text: String,
}

impl fmt::Display for BpfError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Error for BpfError {}

impl BpfError {
    pub(crate) fn new(obstacle: Obstacle, text: impl Into<String>) -> Self {
        Self { obstacle, text: text.into() }
    }

    /// An object of this binary lacks a program or a map: a fault of the build.
    pub(super) fn absent(name: &str) -> Self {
        Self::new(Obstacle::Failed, format!("the BPF object of this build has no '{name}'"))
    }

    /// From an error of the loader, whatever its type: what counts is the system call's error somewhere below it.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        match errno(error) {
            Some(number) => Surroundings::read().explain(number, &chain(error)),
            None => Self::new(Obstacle::Failed, format!("the BPF program cannot be loaded: {}", chain(error))),
        }
    }
}

/// Whether this thread may administer the network; true where that cannot be found out.
pub(super) fn is_network_admin() -> bool {
    Surroundings::read().capabilities.is_none_or(|held| held & CAP_NET_ADMIN != 0)
}

/// The errno in a chain of errors.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut at = Some(error);
    while let Some(one) = at {
        if let Some(found) = one.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(found);
        }
        at = one.source();
    }
    None
}

/// Each error of a chain, short: of the verifier's log, which may have thousands of lines, the one that objects.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut at, mut texts) = (Some(error), Vec::<String>::new());
    while let Some(one) = at {
        let text = shortened(&one.to_string());
        if !texts.iter().any(|other| other.contains(&text)) {
            texts.push(text);
        }
        at = one.source();
    }
    texts.join(": ")
}

fn shortened(text: &str) -> String {
    let statistics = ["processed ", "verification time", "stack depth"];
    let mut lines = text.lines().filter(|line| !statistics.iter().any(|word| line.starts_with(word)));
    let (first, last) = (lines.next().unwrap_or_default(), lines.next_back());
    let (first, _) = first.split_once(" Verifier output").unwrap_or((first, ""));
    let joined = last.map_or_else(|| first.to_owned(), |last| format!("{first} {last}"));
    joined.chars().take(300).collect()
}

/// What of this process and kernel decides about BPF.
#[derive(Debug, Default)]
struct Surroundings {
    capabilities: Option<u64>,
    seccomp: bool,
    lockdown: String,
    user_namespace: bool,
}

impl Surroundings {
    fn read() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let map = fs::read_to_string("/proc/thread-self/uid_map").unwrap_or_default();
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        Self {
            capabilities: field(&status, "CapEff:").and_then(|word| u64::from_str_radix(word, 16).ok()),
            seccomp: field(&status, "Seccomp:").is_some_and(|word| word != "0"),
            lockdown: active(&lockdown),
            user_namespace: !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"]),
        }
    }

    fn explain(&self, number: i32, text: &str) -> BpfError {
        let lacks = self
            .capabilities
            .is_some_and(|held| held & CAP_SYS_ADMIN == 0 && held & (CAP_BPF | CAP_PERFMON) != CAP_BPF | CAP_PERFMON);
        let refused = matches!(number, libc::EPERM | libc::EACCES);
        // Under this lockdown the helpers that read memory are missing, so the error may be another one.
        if !lacks && self.lockdown == "confidentiality" {
            let text = "the kernel is locked down (confidentiality), which forbids BPF programs that read its memory";
            return BpfError::new(Obstacle::Lockdown, text);
        }
        if number == libc::ENOSYS {
            return BpfError::new(Obstacle::Unsupported, "this kernel has no BPF, or hides it (ENOSYS)");
        }
        if !refused || number == libc::EACCES && !lacks {
            return BpfError::new(Obstacle::Failed, format!("the BPF program cannot be loaded: {text}"));
        }
        if lacks {
            let text = "not permitted to load BPF programs: needs root, or CAP_BPF and CAP_PERFMON";
            return BpfError::new(Obstacle::NotPermitted, text);
        }
        let why = match (self.user_namespace, self.seccomp) {
            (true, _) => "root of a user namespace (a container) may not: run it on the host",
            (_, true) => "a seccomp filter (a container's profile) forbids bpf()",
            _ => "a security module or a limit (RLIMIT_MEMLOCK) forbids it",
        };
        BpfError::new(Obstacle::Forbidden, format!("BPF is forbidden here although this process is root: {why}"))
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The lockdown in force: the word in brackets.
fn active(text: &str) -> String {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(word, _)| word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Option<u64> = Some(u64::MAX);

    fn explained(surroundings: &Surroundings, number: i32) -> BpfError {
        surroundings.explain(number, "failed to create map `drops`")
    }

    #[test]
    fn each_obstacle_has_its_words() {
        let cases = [
            (Surroundings { capabilities: Some(0), ..Default::default() }, Obstacle::NotPermitted, "needs root"),
            (Surroundings { capabilities: Some(CAP_BPF), ..Default::default() }, Obstacle::NotPermitted, "CAP_PERFMON"),
            (
                Surroundings { capabilities: ROOT, lockdown: "confidentiality".into(), ..Default::default() },
                Obstacle::Lockdown,
                "locked down",
            ),
            (Surroundings { capabilities: ROOT, seccomp: true, ..Default::default() }, Obstacle::Forbidden, "seccomp"),
            (
                Surroundings { capabilities: ROOT, user_namespace: true, ..Default::default() },
                Obstacle::Forbidden,
                "user namespace",
            ),
            (Surroundings { capabilities: ROOT, ..Default::default() }, Obstacle::Forbidden, "security module"),
        ];
        for (surroundings, obstacle, words) in cases {
            let error = explained(&surroundings, libc::EPERM);
            assert_eq!(error.obstacle, obstacle, "{surroundings:?}");
            assert!(error.text.contains(words), "{error}");
        }
    }

    #[test]
    fn other_errors_are_not_taken_for_a_lack_of_permission() {
        let nobody = Surroundings { capabilities: Some(0), ..Default::default() };
        assert_eq!(explained(&nobody, libc::ENOSYS).obstacle, Obstacle::Unsupported);
        let error = explained(&nobody, libc::ENOMEM);
        assert_eq!((error.obstacle, error.text.contains("map `drops`")), (Obstacle::Failed, true));
    }

    #[test]
    fn the_lockdown_in_force_is_the_one_in_brackets() {
        assert_eq!(active("none integrity [confidentiality]\n"), "confidentiality");
        assert_eq!(active("[none] integrity confidentiality\n"), "none");
        assert_eq!(active(""), "");
    }
}
