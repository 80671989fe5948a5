"""Settings are applied and undone: exactly, after crashes and reboots, and never what is somebody else's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import hosts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Cli
from flatout.errors import UsageError
from flatout.host.tuning import journal as journals
from flatout.host.tuning.aim import Aim, Role, Transport
from flatout.host.tuning.apply import Change, Undone, apply, set_all, undo
from flatout.host.tuning.check import FINE, HostCheck, check
from flatout.host.tuning.journal import Entry, Journal
from flatout.host.tuning.script import script
from flatout.host.tuning.system import System
from flatout.view.terminal import tuning as view

SERVER = Aim(role="server", transport="udp", rate_per_s=500_000.0, ports=[123])
RMEM = "net.core.rmem_max"
BACKLOG = "net.core.netdev_max_backlog"
GOVERNOR = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"


class Machine(NamedTuple):
    """A host, its programs, and where its journal is."""

    system: System
    programs: hosts.Programs
    journal: Path

    def check(self, aim: Aim = SERVER) -> HostCheck:
        return check(aim, self.system)

    def apply(self, aim: Aim = SERVER) -> list[Change]:
        return apply(aim, self.system, self.journal)

    def undo(self, force: bool = False) -> list[Undone]:
        return undo(self.system, self.journal, force=force)

    def set(self, name: str, value: str) -> None:
        (self.system.root / hosts.file_of(name)).write_text(f"{value}\n", encoding="ascii")

    def value(self, name: str) -> str:
        return (self.system.root / hosts.file_of(name)).read_text(encoding="ascii").strip()

    def reboot(self) -> None:
        """Everything is as installed, and the boot has another name."""
        hosts.tree(self.system.root, hosts.SYSCTLS | hosts.TRACKING, others={hosts.BOOT: "another"})
        self.programs.table = ""


def machine(folder: Path, **sysctls: str) -> Machine:
    programs = hosts.Programs("nft")
    root = hosts.tree(folder / "root", hosts.SYSCTLS | hosts.TRACKING | sysctls)
    return Machine(hosts.host(root, programs), programs, folder / "state" / "host.json")


@pytest.fixture
def one(tmp_path: Path) -> Machine:
    return machine(tmp_path)


@contextmanager
def fresh(sysctls: dict[str, str]) -> Iterator[Machine]:
    with hosts.folder() as folder:
        yield machine(folder, **sysctls)


# --- The round trip ---

NUMBER = st.integers(0, 2**31).map(str)
VALUES = st.fixed_dictionaries(
    {
        RMEM: NUMBER,
        "net.core.rmem_default": NUMBER,
        BACKLOG: NUMBER,
        "net.core.somaxconn": NUMBER,
        "net.ipv4.tcp_max_syn_backlog": NUMBER,
        "net.ipv4.tcp_max_tw_buckets": NUMBER,
        "net.ipv4.tcp_mem": st.tuples(NUMBER, NUMBER, NUMBER).map("\t".join),
        "net.ipv4.udp_mem": st.tuples(NUMBER, NUMBER, NUMBER).map("\t".join),
        "net.ipv4.ip_local_port_range": st.tuples(st.integers(1, 40_000), st.integers(40_001, 65_535)).map(
            lambda pair: f"{pair[0]}\t{pair[1]}"
        ),
        "net.ipv4.tcp_tw_reuse": st.sampled_from("012"),
        "net.ipv4.tcp_syncookies": st.sampled_from("012"),
        "fs.nr_open": NUMBER,
    }
)
ROLES: st.SearchStrategy[Role] = st.sampled_from(("server", "client"))
TRANSPORTS: st.SearchStrategy[Transport] = st.sampled_from(("udp", "tcp"))
AIMS = st.builds(
    Aim,
    role=ROLES,
    transport=TRANSPORTS,
    connections=st.none() | st.integers(1, 10**8),
    rate_per_s=st.none() | st.floats(1, 200e6),
    ports=st.lists(st.integers(1, 65_535), max_size=3),
)
MODES = {"net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_syncookies"}
RANGE = "net.ipv4.ip_local_port_range"


def lowered(name: str, before: str, after: str) -> bool:
    old, new = ([int(word) for word in text.split()] for text in (before, after))
    if name == RANGE:
        return new[0] > old[0] or new[1] < old[1]
    return name not in MODES and any(then < now for now, then in zip(old, new, strict=True))


@given(VALUES, AIMS, AIMS)
def test_undo_restores_whatever_there_was(values: dict[str, str], first: Aim, second: Aim) -> None:
    with fresh(values) as host:
        before = hosts.contents(host.system.root)
        host.apply(first)
        done = host.apply(second)
        assert {item.name for item in done if item.failed} <= {"limit on descriptors", "connection tracking (NOTRACK)"}
        for name, value in values.items():
            assert not lowered(name, value, host.value(name)), name
        if host.journal.exists():
            host.undo()
        assert hosts.contents(host.system.root) == before
        assert host.programs.table == ""
        assert not host.journal.exists()


@given(VALUES, AIMS)
def test_what_was_applied_is_as_wanted(values: dict[str, str], aim: Aim) -> None:
    with fresh(values) as host:
        host.apply(aim)
        differing = {setting.name for setting in host.check(aim).settings if setting.state not in FINE}
        assert differing <= {"limit on descriptors", "connection tracking (NOTRACK)"}
        assert not [item for item in host.apply(aim) if not item.failed], "nothing is left to change"


@given(st.integers(0, 5), st.booleans(), st.integers(0, 5), st.booleans())
def test_a_crash_at_any_point_can_be_undone(at: int, behind: bool, again: int, back_behind: bool) -> None:
    with fresh({}) as host:
        before = hosts.contents(host.system.root)
        with pytest.raises(KeyboardInterrupt):
            apply(SERVER, hosts.Stopped(host.system, at, behind), host.journal)
        try:
            undo(hosts.Stopped(host.system, again, back_behind), host.journal)
        except KeyboardInterrupt:
            host.undo()
        assert hosts.contents(host.system.root) == before
        assert host.programs.table == ""
        assert not host.journal.exists()


def test_the_journal_is_there_before_the_first_change(one: Machine) -> None:
    seen: list[bool] = []

    class Watched(System):
        def write(self, key: str, value: str) -> None:
            kept = journals.load(one.journal)
            assert kept is not None
            seen.append({entry.key: entry.before for entry in kept.entries}.get(key) == self.read(key))
            super().write(key, value)

    apply(SERVER, Watched(one.system.root, one.programs, one.system.ioctl), one.journal)
    assert len(seen) > 4
    assert all(seen)


def test_a_second_apply_keeps_the_first_values(one: Machine) -> None:
    one.apply()
    one.apply(Aim(role="server", transport="udp", rate_per_s=4e6, ports=[53]))
    assert int(one.value(RMEM)) > 8 << 20
    assert "udp dport 53" in one.programs.table
    assert "udp dport 123" in one.programs.table, "rules of before stay"
    assert {item.how for item in one.undo()} == {"restored"}
    assert one.value(RMEM) == "212992"


# --- What others do ---


def test_what_somebody_changed_since_is_left_and_told(one: Machine) -> None:
    one.apply()
    one.set(RMEM, "77777777")
    left = [item for item in one.undo() if item.how != "restored"]
    assert [(item.name, item.how, item.now) for item in left] == [(RMEM, "left", "77777777")]
    assert "--force restores 212992" in view.undone(left)[0]
    assert one.value(RMEM) == "77777777"
    assert one.value(BACKLOG) == "1000"
    assert [item.how for item in one.undo(force=True)] == ["restored"]
    assert one.value(RMEM) == "212992"
    assert not one.journal.exists()


def test_a_reboot_has_restored_it(one: Machine) -> None:
    one.apply()
    one.reboot()
    before = hosts.contents(one.system.root)
    assert {item.how for item in one.undo()} == {"as before"}
    assert hosts.contents(one.system.root) == before


def test_what_somebody_set_after_a_reboot_stays(one: Machine) -> None:
    one.apply()
    wanted = one.value(RMEM)
    one.reboot()
    one.set(RMEM, wanted)
    reset = [item for item in one.undo() if item.how == "reset"]
    assert [item.name for item in reset] == [RMEM]
    assert "since the host was started again" in view.undone(reset)[0]
    assert one.value(RMEM) == wanted
    assert not one.journal.exists(), "there is nothing left to undo"


def test_an_apply_after_a_reboot_has_values_of_its_own(one: Machine) -> None:
    one.apply()
    one.reboot()
    one.set(RMEM, "300000")
    one.apply()
    one.undo()
    assert one.value(RMEM) == "300000"


def test_a_device_that_is_gone_needs_nothing(one: Machine) -> None:
    one.apply()
    (one.system.root / "sys/class/net/eth0/queues/rx-0/rps_cpus").unlink()
    assert [item.how for item in one.undo() if item.name == "rps_cpus"] == ["gone"]
    assert not one.journal.exists()


def test_what_another_one_raised_meanwhile_is_not_lowered(one: Machine) -> None:
    """Between the check and the lock: the journal has the value that was there then, or none."""
    found = [item for item in one.check().settings if item.name == RMEM]
    one.set(RMEM, "99999999")
    (change,) = set_all(found, one.system, one.journal)
    assert "apply again" in change.failed
    assert one.value(RMEM) == "99999999"
    assert not one.journal.exists()


# --- What cannot be ---


def test_undo_without_apply_says_so(one: Machine) -> None:
    with pytest.raises(UsageError, match="nothing to undo: there is no journal"):
        one.undo()
    one.journal.parent.mkdir()
    with pytest.raises(UsageError, match="nothing to undo"):
        one.undo()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"212992", b"212993"),
        lambda data: data[: len(data) // 2],
        lambda data: data[:0],
        lambda data: data.replace(b'"sha256":"', b'"sha256":"0'),
        lambda data: data.replace(data, b"[1, 2]"),
        lambda data: b"\xff" + data,
    ],
)
def test_an_edited_journal_is_refused_and_nothing_changes(one: Machine, change: object) -> None:
    assert callable(change)
    one.apply()
    one.journal.write_bytes(change(one.journal.read_bytes()))
    before = hosts.contents(one.system.root)
    for act in (one.undo, lambda: one.apply(Aim(role="server", transport="udp", rate_per_s=4e6))):
        with pytest.raises(UsageError, match="was changed or damaged"):
            act()
    assert hosts.contents(one.system.root) == before


def test_a_journal_of_another_namespace_is_refused(one: Machine) -> None:
    governor = one.system.root / GOVERNOR
    governor.chmod(0o444)
    one.apply()
    hosts.namespace(one.system.root, 2)
    with pytest.raises(UsageError, match="another network namespace"):
        one.undo()
    with pytest.raises(UsageError, match="another network namespace"):
        one.apply(Aim(role="server", transport="udp", rate_per_s=4e6))


def test_what_is_of_the_whole_host_is_undone_from_anywhere(one: Machine) -> None:
    """The namespace of a server may be gone, and with it what was set there, but not what was set of the host."""
    one.apply()
    hosts.namespace(one.system.root, 2)
    done = {item.name: item for item in one.undo()}
    assert done["scaling_governor"].how == "restored"
    assert (one.system.root / GOVERNOR).read_text("ascii").strip() == "schedutil"
    assert done[RMEM].how == "failed"
    assert "another network namespace (net:[1])" in done[RMEM].reason
    assert int(one.value(RMEM)) > 212_992
    hosts.namespace(one.system.root, 1)
    assert {item.how for item in one.undo()} == {"restored"}
    assert one.value(RMEM) == "212992"


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_journal_that_others_can_write_is_refused(one: Machine, mode: int) -> None:
    """Anybody could have root write anything by it: its checksum is no signature."""
    one.apply()
    one.journal.chmod(mode)
    with pytest.raises(UsageError, match="can be written by others"):
        one.undo()
    one.journal.chmod(0o600)
    assert {item.how for item in one.undo()} == {"restored"}


def test_a_journal_is_no_link_and_no_pipe(one: Machine) -> None:
    one.apply()
    real = one.journal.rename(one.journal.with_name("real.json"))
    one.journal.symlink_to(real)
    with pytest.raises(UsageError, match="symbolic link"):
        one.undo()
    one.journal.unlink()
    os.mkfifo(one.journal)
    with pytest.raises(UsageError, match="is no file"):
        one.undo()


def test_a_link_in_place_of_the_journal_is_not_written_through(one: Machine) -> None:
    victim = one.system.root / "victim"
    victim.write_text("mine", encoding="ascii")
    one.journal.parent.mkdir()
    one.journal.symlink_to(victim)
    with pytest.raises(UsageError, match="symbolic link"):
        one.apply()
    assert victim.read_text("ascii") == "mine"


@pytest.mark.parametrize(
    "key", ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper"]
)
def test_a_journal_with_a_checksum_writes_only_what_flatout_sets(one: Machine, key: str) -> None:
    hosts.put(one.system.root, key.lstrip("/"), "core")
    forged = Journal(
        flatout="1",
        saved_at="2026-01-01T00:00:00Z",
        boot_id=one.system.boot_id(),
        namespace=one.system.namespace(),
        entries=[Entry(name="x", key=key, before="|/tmp/evil", ours=["core"])],
    )
    one.journal.parent.mkdir()
    journals.store(one.journal, forged)
    with pytest.raises(UsageError, match="entries of another kind"):
        one.undo(force=True)
    assert (one.system.root / key.lstrip("/")).read_text("ascii") == "core\n"


def test_a_journal_is_for_its_owner_only(one: Machine) -> None:
    one.apply()
    assert one.journal.stat().st_mode & 0o077 == 0
    assert [path.name for path in one.journal.parent.iterdir()] == ["host.json"]


def test_two_at_once_are_refused(one: Machine) -> None:
    with journals.locked(one.journal, make=True), pytest.raises(UsageError, match="another flatout"):
        one.apply()


def test_without_a_journal_nothing_is_changed(one: Machine) -> None:
    one.journal.parent.write_text("a file, and no folder", encoding="ascii")
    before = hosts.contents(one.system.root)
    with pytest.raises(UsageError, match="cannot be written"):
        one.apply()
    assert hosts.contents(one.system.root) == before


class Refusing(System):
    """A kernel that takes no value for one key, or makes another one of it."""

    made = ""

    def write(self, key: str, value: str) -> None:
        if not key.endswith("rmem_max"):
            super().write(key, value)
        elif self.made:
            super().write(key, self.made)
        else:
            raise OSError(22, "Invalid argument")


def test_what_the_kernel_refuses_is_told_and_the_rest_is_set(one: Machine) -> None:
    kernel = Refusing(one.system.root, one.programs, one.system.ioctl)
    failed = [item for item in apply(SERVER, kernel, one.journal) if item.failed]
    assert [(item.name, item.after) for item in failed] == [(RMEM, "212992")]
    assert view.changes(failed) == [f"NOT SET  {RMEM}: stays 212992: the kernel refused the value"]
    kept = journals.load(one.journal)
    assert kept is not None
    assert all(entry.name != RMEM for entry in kept.entries)
    assert one.value(BACKLOG) == "5000"


def test_what_the_kernel_made_of_a_value_is_undone(one: Machine) -> None:
    kernel = Refusing(one.system.root, one.programs, one.system.ioctl)
    kernel.made = "999999"
    failed = [item for item in apply(SERVER, kernel, one.journal) if item.failed]
    assert "the kernel made 999999" in failed[0].failed
    assert {item.how for item in one.undo()} == {"restored"}
    assert one.value(RMEM) == "212992"


def test_where_nothing_can_be_changed_there_is_no_journal(one: Machine) -> None:
    for name in (*hosts.SYSCTLS, *hosts.TRACKING):
        (one.system.root / hosts.file_of(name)).chmod(0o444)
    for file in one.system.root.rglob("rps_cpus"):
        file.chmod(0o444)
    (one.system.root / GOVERNOR).chmod(0o444)
    done = one.apply(Aim(role="server", transport="udp"))
    assert done
    assert all(item.failed for item in done)
    assert not one.journal.exists()


# --- The script ---


def run_script(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-s", *arguments], input=text, capture_output=True, text=True, check=False)


@given(VALUES, AIMS)
def test_the_script_does_what_apply_does(sysctls: dict[str, str], aim: Aim) -> None:
    aim = Aim(role=aim.role, transport=aim.transport, connections=aim.connections, rate_per_s=aim.rate_per_s)
    with fresh(sysctls) as host:
        before = hosts.contents(host.system.root)
        text = script(host.check(aim), host.system)
        assert hosts.contents(host.system.root) == before, "it is only printed"
        ran = run_script(text)
        assert (ran.returncode, ran.stderr) == (0, "")
        scripted = hosts.contents(host.system.root)
        ran = run_script(text, "undo")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert hosts.contents(host.system.root) == before
        host.apply(aim)
        assert hosts.contents(host.system.root) == scripted


def test_the_script_has_the_rules_and_what_it_cannot_do(one: Machine) -> None:
    text = script(one.check(), one.system)
    assert text.count("nft -f - <<'END' || failed=1\n") == 2
    assert text.splitlines().count("END") == 2
    assert run_script(text, "else").returncode == 2
    limits = script(one.check(Aim(role="server", transport="tcp", connections=10**6)), one.system)
    assert "# Not set: limit on descriptors" in limits
    assert "# Not set: connection tracking" in limits


def test_a_script_goes_on_behind_what_fails(one: Machine) -> None:
    text = script(one.check(Aim(role="server", transport="udp")), one.system)
    (one.system.root / hosts.file_of(RMEM)).unlink()
    (one.system.root / hosts.file_of(RMEM)).mkdir()
    ran = run_script(text)
    assert ran.returncode == 1
    assert "rmem_max" in ran.stderr
    assert one.value(BACKLOG) == "5000"


def test_a_script_that_has_nothing_to_do_is_one(one: Machine) -> None:
    one.apply(SERVER)
    text = script(one.check(SERVER), one.system)
    assert run_script(text).returncode == 0
    assert run_script(text, "undo").returncode == 0


# --- The command line; nothing of this machine is changed ---


def test_the_command_says_what_undo_needs(cli: Cli) -> None:
    done = cli("host", "undo", "--journal", cli.folder / "none.json")
    assert (done.code, done.out) == (2, "")
    assert "nothing to undo: there is no journal" in done.err


@pytest.mark.parametrize("verb", [("undo",), ("apply", "--role", "server", "--for", "udp")])
def test_a_journal_has_a_name(cli: Cli, verb: tuple[str, ...]) -> None:
    done = cli("host", *verb, "--journal", "")
    assert done.code == 2
    assert "--journal" in done.err


def test_the_command_prints_a_script(cli: Cli) -> None:
    flags = ("--role", "client", "--for", "tcp", "--connections", "100M", "--dry-run")
    done = cli("host", "apply", *flags, "--journal", cli.folder / "host.json")
    assert done.code == 0
    assert done.out.startswith("#!/bin/sh\n")
    assert "put /proc/sys/" in done.out
    assert list(cli.folder.glob("host*")) == []
