"""What `limit --improve` sets for a finding: how much, never less than now, and why not where it cannot."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import hosts
import ledgers
import msgspec
import pytest
import results
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import ROOT
from flatout.errors import UsageError
from flatout.host.tuning import journal as journals
from flatout.host.tuning import live_socket, namespaces, process_limits, remedies, steps
from flatout.host.tuning.remedies import SETTABLE, At, Context, Remedy
from flatout.host.tuning.steps import Steps
from flatout.host.tuning.system import NEEDS_ROOT, System
from flatout.host.tuning.tunables import settable
from flatout.result.finding import Finding
from flatout.result.machine import Placement
from flatout.result.model import LimitResult, Trial

LOOPBACK = ip_address("127.0.0.1")
SYSCTLS = {
    "SYN queue": "net.ipv4.tcp_max_syn_backlog",
    "softnet backlog": "net.core.netdev_max_backlog",
    "conntrack full": "net.netfilter.nf_conntrack_max",
    "ephemeral ports": "net.ipv4.ip_local_port_range",
    "socket memory": "net.ipv4.udp_mem",
}
OF_SOCKETS = {"receive buffer": live_socket.RCVBUF, "accept queue": live_socket.BACKLOG}


class Host(System):
    """Sysctls of a tree, processes of this host, and sockets whose settings have the values that a test gives them."""

    def __init__(self, root: Path, sockets: Mapping[str, str] | None = None) -> None:
        super().__init__(root, hosts.Programs(), hosts.Devices(), dict)
        self.sockets = dict(sockets or {})
        self.refuses: set[str] = set()

    def read(self, key: str) -> str:
        setting = key.rpartition(":")[2]
        return self.sockets[setting] if setting in self.sockets else super().read(key)

    def write(self, key: str, value: str) -> None:
        if any(word in key for word in self.refuses):
            raise PermissionError(1, "Operation not permitted")
        if key.rpartition(":")[2] in self.sockets:
            self.sockets[key.rpartition(":")[2]] = value
            return
        super().write(key, value)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host with this process on it."""
    made = hosts.tree(tmp_path_factory.mktemp("host"), hosts.SYSCTLS | hosts.TRACKING)
    (made / "proc" / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    return made


@pytest.fixture(scope="module")
def targets() -> Iterator[list[At]]:
    """Two sockets of UDP at one address, and one that listens, at the same port."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        socket.socket() as listener,
    ):
        for each in (one, other):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        other.bind(("127.0.0.1", port))
        listener.bind(("127.0.0.1", port))
        listener.listen(16)
        yield [(LOOPBACK, port)]


def trial(
    name: str,
    where: str | None = "here",
    *,
    rate: float = 200_000,
    charge: int | None = 832,
    files: tuple[int, int] = (1024, 1024),
) -> Trial:
    """One that failed by a finding, against this very process, which holds so many descriptors of so many."""
    about = msgspec.structs.replace(ledgers.ABOUT, pids=[os.getpid()]) if where in ("here", "namespace") else None
    run = results.trial(rate, "search", results.Server(), 1)
    held = {"target_files": files[0], "target_files_limit": files[1]}
    seen = ledgers.closed(run, ledgers.sampled(packet_bytes=charge, **held)).ledger
    finding = Finding(name=name, sentence="", evidence=[], remedy="", confidence="high")
    sent = msgspec.structs.replace(run.rate_per_s, sent=rate)
    placement = Placement(target=about, where=where)  # type: ignore[arg-type]
    return msgspec.structs.replace(run, placement=placement, ledger=seen, findings=[finding], rate_per_s=sent)


def remedy(system: System, targets: list[At], run: Trial) -> Remedy:
    made = remedies.remedy(run.findings[0], Context(run, targets, system))
    assert made is not None
    assert made.finding == run.findings[0].name
    assert all(settable(one.key) for one in made.settings)
    return made


# --- How much ---


# An odd number, which the kernel, which doubles, cannot keep.
@example(rate=40_040.0, charge=833, now=2304)
@given(rate=st.floats(1, 1e8), charge=st.none() | st.integers(256, 70_000), now=st.integers(2304, 1 << 26))
def test_a_receive_buffer_lasts_50_ms_and_is_never_made_smaller(
    root: Path, targets: list[At], rate: float, charge: int | None, now: int
) -> None:
    made = remedy(Host(root, {"rcvbuf": str(now)}), targets, trial("receive buffer", rate=rate, charge=charge))
    if made.unmet:
        assert now >= 1 << 25
        return
    # Two sockets share what comes.
    assert len({one.key for one in made.settings}) == 2
    for one in made.settings:
        wanted = int(one.wanted or 0)
        assert one.now == str(now) != one.wanted
        assert now < wanted <= 1 << 25
        assert wanted == min(max(int(rate / 2 * 0.05 * (charge or 0)), 4 * now), 1 << 25) & ~1


def test_without_root_a_receive_buffer_is_bounded_by_its_sysctl(
    root: Path, targets: list[At], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    made = remedy(Host(root, {"rcvbuf": "212992"}), targets, trial("receive buffer"))
    assert [one.wanted for one in made.settings] == [str(2 * 212_992)] * 2
    made = remedy(Host(root, {"rcvbuf": "425984"}), targets, trial("receive buffer"))
    assert made.unmet == "it is as large as flatout makes it (425984)"


def test_without_root_it_has_the_same_bound(tmp_path: Path, targets: list[At], monkeypatch: pytest.MonkeyPatch) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | {"net.core.rmem_max": str(1 << 30)})
    (root / "proc" / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    made = remedy(Host(root, {"rcvbuf": "212992"}), targets, trial("receive buffer", rate=1e8))
    assert [one.wanted for one in made.settings] == [str(1 << 25)] * 2


@pytest.mark.parametrize(("now", "wanted", "somaxconn"), [(16, 4096, None), (1024, 4096, None), (4096, 16_384, 16_384)])
def test_an_accept_queue_comes_with_the_sysctl_that_bounds_it(
    root: Path, targets: list[At], now: int, wanted: int, somaxconn: int | None
) -> None:
    made = remedy(Host(root, {"backlog": str(now)}), targets, trial("accept queue"))
    asked = [(one.name, one.wanted) for one in made.settings]
    # First the sysctl: listen() cuts what is above it.
    limits = [("net.core.somaxconn", str(somaxconn))] if somaxconn else []
    assert asked == [*limits, ("accept queue of the target's socket (listen)", str(wanted))]


@pytest.mark.parametrize(
    ("finding", "wanted"),
    [
        ("SYN queue", "8192"),
        ("softnet backlog", "4000"),
        ("conntrack full", "1048576"),
        ("ephemeral ports", "1024\t65535"),
        ("socket memory", "2303196\t3070936\t4606392"),
    ],
)
def test_sysctls(root: Path, targets: list[At], finding: str, wanted: str) -> None:
    made = remedy(Host(root), targets, trial(finding))
    assert [(one.name, one.wanted) for one in made.settings] == [(SYSCTLS[finding], wanted)]
    assert made.risk


def test_ports_that_are_all_free_already_are_left(tmp_path: Path, targets: list[At]) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS | {"net.ipv4.ip_local_port_range": "1000\t65535"})
    made = remedy(Host(root), targets, trial("ephemeral ports"))
    assert made.unmet == "net.ipv4.ip_local_port_range is as large as flatout makes it (1000\t65535)"
    assert not made.settings


# --- Why not ---


def test_findings_are_causes_and_others_have_no_setting(root: Path, targets: list[At]) -> None:
    documented = set(re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs" / "findings.md").read_text("utf-8"), re.MULTILINE))
    assert {*SYSCTLS, *OF_SOCKETS, "descriptors"} == SETTABLE <= documented
    run = trial("one thread")
    assert remedies.remedy(run.findings[0], Context(run, targets, Host(root))) is None


@pytest.mark.parametrize("finding", sorted(SETTABLE - {"ephemeral ports"}))
@pytest.mark.parametrize("placed", ["elsewhere", "unknown"])
def test_a_target_on_another_host_is_left_to_people(root: Path, targets: list[At], finding: str, placed: str) -> None:
    run = trial(finding, "elsewhere")
    run = run if placed == "elsewhere" else msgspec.structs.replace(run, placement=None)
    made = remedy(Host(root), targets, run)
    command = f"flatout host check --role server --for udp --rate 200000 --port {targets[0][1]}"
    assert made.unmet == f"the target is on another host: run there `{command}`"


def test_ports_are_this_end_s_wherever_the_target_is(root: Path, targets: list[At]) -> None:
    assert not remedy(Host(root), targets, trial("ephemeral ports", "elsewhere")).unmet


@pytest.mark.parametrize("finding", ["SYN queue", "conntrack full"])
def test_sysctls_of_another_namespace_are_set_there(
    root: Path, targets: list[At], finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "inside", lambda _key, _root, work: work())
    here, there = (remedy(Host(root), targets, trial(finding, where)).settings[0] for where in ("here", "namespace"))
    assert there.key == f"netns:{os.stat('/proc/self/ns/net').st_ino}:{here.key}"
    assert (there.now, there.wanted) == (here.now, here.wanted)


@pytest.mark.parametrize("finding", ["SYN queue", "conntrack full", "accept queue"])
def test_of_a_namespace_whose_processes_have_ended_it_is_said(
    root: Path, targets: list[At], finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "key", lambda *_: None)
    name = SYSCTLS.get(finding, "net.core.somaxconn")
    made = remedy(Host(root, {"backlog": "16"}), targets, trial(finding, "namespace"))
    assert made.unmet == (
        f"the target is in another network namespace, of which no process can be seen: raise {name} there"
    )


def test_an_accept_queue_is_left_where_the_sysctl_that_bounds_it_cannot_be_raised(
    tmp_path: Path, targets: list[At]
) -> None:
    root = hosts.tree(tmp_path, hosts.SYSCTLS)
    (root / "proc" / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    (root / hosts.file_of("net.core.somaxconn")).chmod(0o444)
    made = remedy(Host(root, {"backlog": "4096"}), targets, trial("accept queue"))
    assert made.unmet.startswith("net.core.somaxconn bounds it, and cannot be changed: read-only here")


@pytest.mark.parametrize(
    ("soft", "hard", "user", "wanted"),
    [
        (1024, 20_000, 1000, ["4096 20000"]),
        (1024, 2000, 1000, ["2000 2000"]),
        (1024, 2000, 0, ["4096 4096"]),
        (2000, 2000, 1000, []),
        (2000, 2000, 0, ["8000 8000"]),
    ],
)
def test_descriptors_of_the_target(
    monkeypatch: pytest.MonkeyPatch,
    *,
    root: Path,
    targets: list[At],
    soft: int,
    hard: int,
    user: int,
    wanted: list[str],
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    key = process_limits.key(os.getpid())
    assert key is not None
    host = Host(root, {key.rpartition(":")[2]: f"{soft} {hard}"})
    made = remedy(host, targets, trial("descriptors", files=(soft, soft)))
    assert [(one.key, one.wanted) for one in made.settings] == [(key, value) for value in wanted]
    assert bool(made.unmet) == (not wanted)


def test_descriptors_of_flatout_itself_are_not_the_target_s(root: Path, targets: list[At]) -> None:
    made = remedy(Host(root), targets, trial("descriptors", files=(100, 1024)))
    assert made.unmet == "it is this process's own: begin flatout with a higher one (ulimit -n)"


def test_memory_of_connections_is_another_setting(root: Path, targets: list[At]) -> None:
    run = trial("socket memory")
    streams = msgspec.structs.replace(run.scenario, transport="tcp", connections=10)
    made = remedy(Host(root), targets, msgspec.structs.replace(run, scenario=streams))
    assert [(one.name, one.wanted) for one in made.settings] == [("net.ipv4.tcp_mem", "1151592\t1535468\t2303184")]


@pytest.mark.parametrize("finding", ["softnet backlog", "ephemeral ports", "socket memory", "receive buffer"])
def test_what_is_of_this_end_or_of_a_socket_is_set_for_another_namespace_too(
    root: Path, targets: list[At], finding: str
) -> None:
    assert not remedy(Host(root, {"rcvbuf": "212992"}), targets, trial(finding, "namespace")).unmet


@pytest.mark.parametrize("finding", sorted(OF_SOCKETS))
def test_sockets_that_cannot_be_seen_are_said(root: Path, targets: list[At], finding: str) -> None:
    # Hidden from the start; or the process is there and its socket is not.
    for run, shown in ((trial(finding, "hidden"), targets), (trial(finding), [(ip_address("127.0.0.9"), 9)])):
        made = remedy(Host(root), shown, run)
        assert made.unmet == "the target's sockets cannot be seen: they are another user's (run as root)"


def test_a_descriptor_that_may_not_be_duplicated_is_said(
    root: Path, targets: list[At], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(live_socket, "_get", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    made = remedy(Host(root), targets, trial("receive buffer"))
    assert made.unmet == f"its descriptor cannot be duplicated (pidfd_getfd): {NEEDS_ROOT}"


@pytest.mark.parametrize("finding", sorted(SYSCTLS))
def test_sysctls_that_are_missing_or_read_only_are_said(tmp_path: Path, targets: list[At], finding: str) -> None:
    file = hosts.tree(tmp_path, hosts.SYSCTLS | hosts.TRACKING) / hosts.file_of(SYSCTLS[finding])
    file.chmod(0o444)
    assert "cannot be changed here: read-only here" in remedy(Host(tmp_path), targets, trial(finding)).unmet
    file.unlink()
    assert "cannot be changed here: not in this kernel, or of" in remedy(Host(tmp_path), targets, trial(finding)).unmet


# --- Steps ---


def search(*trials: Trial) -> LimitResult:
    found = results.limit()
    return msgspec.structs.replace(found, trials=list(trials), findings=trials[0].findings)


Make = Callable[..., tuple[Steps, Host]]


@pytest.fixture
def make(tmp_path: Path, targets: list[At]) -> Make:
    """Steps on a host of their own, with a journal."""

    def made(sockets: Mapping[str, str] | None = None) -> tuple[Steps, Host]:
        root = hosts.tree(tmp_path / "host", hosts.SYSCTLS | hosts.TRACKING)
        (root / "proc" / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
        host = Host(root, sockets)
        return Steps(targets, tmp_path / "state" / "improve.json", host), host

    return made


@pytest.mark.parametrize("finding", sorted(SETTABLE))
def test_each_step_is_set_journalled_and_undone(make: Make, finding: str) -> None:
    key = process_limits.key(os.getpid())
    assert key is not None
    settings, host = make({"rcvbuf": "212992", "backlog": "4096", key.rpartition(":")[2]: "1024 20000"})
    (step,) = settings.steps(search(trial(finding)))
    before = {one.key: host.read(one.key) for one in step.settings}
    assert settings.change(step) == ""
    assert {one.key: host.read(one.key) for one in step.settings} == {one.key: one.wanted for one in step.settings}
    journal = journals.load(settings.at)
    assert journal is not None
    assert {one.key: one.before for one in journal.entries} == before
    assert settings.undo(but=[one.key for one in step.settings]) == []
    assert journals.load(settings.at) == journal
    assert settings.undo() == []
    assert {key: host.read(key) for key in before} == before
    assert not settings.at.exists()


def test_a_step_is_changed_whole_or_not_at_all(make: Make) -> None:
    settings, host = make({"backlog": "4096"})
    before = hosts.contents(host.root)
    (step,) = settings.steps(search(trial("accept queue")))
    host.refuses = {"socket:"}
    assert "accept queue of the target's socket (listen): " in settings.change(step)
    assert hosts.contents(host.root) == before
    assert not settings.at.exists()


def test_a_failed_step_leaves_earlier_ones_as_they_are(make: Make) -> None:
    settings, host = make({"rcvbuf": "212992"})
    (kept,) = settings.steps(search(trial("receive buffer")))
    (failing,) = settings.steps(search(trial("SYN queue")))
    assert settings.change(kept) == ""
    host.refuses = {"syn_backlog"}
    assert settings.change(failing)
    assert host.sockets["rcvbuf"] == kept.settings[0].wanted


def test_what_somebody_else_has_changed_since_is_left_and_said(make: Make) -> None:
    settings, host = make()
    (step,) = settings.steps(search(trial("SYN queue")))
    assert settings.change(step) == ""
    host.write(step.settings[0].key, "7")
    (said,) = settings.undo()
    assert said.startswith("net.ipv4.tcp_max_syn_backlog could not be restored to 2048: ")
    assert said.endswith(f"`flatout host undo --journal {settings.at}`")


def test_steps_begin_only_without_changes_of_before(make: Make, targets: list[At]) -> None:
    settings, host = make()
    (step,) = settings.steps(search(trial("SYN queue")))
    settings.change(step)
    with pytest.raises(UsageError, match=f"`flatout host undo --journal {re.escape(str(settings.at))}` does"):
        Steps(targets, settings.at, host)
    settings.undo()
    Steps(targets, settings.at, host)


def test_steps_are_of_the_trial_that_the_findings_are_of(make: Make) -> None:
    """The lowest of those: a buffer for its rate, not for a far higher one."""
    settings, _ = make({"rcvbuf": "4608"})
    far, near = trial("receive buffer", rate=800_000), trial("receive buffer", rate=100_000)
    (step,) = settings.steps(search(far, near))
    assert step.settings[0].wanted == str(int(50_000 * 0.05 * 832))
    assert settings.steps(msgspec.structs.replace(search(far), findings=[])) == []


def test_journals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert steps.journal_path() == Path("/var/lib/flatout/improve.json")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert steps.journal_path() == Path("/home/me/.local/state/flatout/improve.json")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert steps.journal_path() == tmp_path / "flatout" / "improve.json"
