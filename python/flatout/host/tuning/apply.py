"""Sets what differs from an aim's needs, the journal first; and undoes it by the journal.

Method: all values that are about to change are on the disk before the first one is changed, so a crash at any point
leaves enough to undo. A value is restored only while it is one that flatout has set; each is read back.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from flatout.errors import UsageError
from flatout.host.describe import VERSION
from flatout.host.tuning import ethtool, journal, netfilter
from flatout.host.tuning.aim import Aim
from flatout.host.tuning.check import HostCheck, Setting, check
from flatout.host.tuning.journal import Entry, Journal
from flatout.host.tuning.rules import same
from flatout.host.tuning.system import System, because
from flatout.host.tuning.tunables import of_the_host

CHANNELS = ethtool.CHANNELS
_OF_QUEUES = ("rps_cpus", "rps_flow_cnt", "xps_cpus")
_OPEN = ("differs", "unknown")

How = Literal["restored", "as before", "gone", "reset", "left", "failed"]


class Change(NamedTuple):
    """What became of one setting. `after`: its value then; `failed`: why that is not the one wanted, or empty."""

    name: str
    key: str
    before: str
    after: str
    failed: str = ""


class Undone(NamedTuple):
    """What became of one entry of the journal.

    `how`: "restored"; "as before", for it was already; "gone" with its device; "left", for somebody else has changed
    it; "failed"; "reset" to another value than before by a reboot. `reason`: why, where it was left or failed.
    """

    name: str
    key: str
    before: str
    now: str
    how: How
    reason: str = ""


def apply(aim: Aim, system: System, at: Path) -> list[Change]:
    """Sets what differs from the needs of an aim; returns what was changed and what could not be.

    Channels come first: with their number the queues change that the other settings are about.
    Errors: UsageError, with nothing changed.
    """
    found = check(aim, system)
    channels = [one for one in _wanted(found) if one.name == CHANNELS]
    done = set_all(channels, system, at)
    found = check(aim, system) if channels else found
    tried = {one.key for one in done}
    rest = [one for one in _wanted(found) if one.key not in tried]
    done += set_all(rest, system, at)
    cannot = [one for one in found.settings if one.state in _OPEN and one.key not in tried and one not in rest]
    return [*done, *(_failed(one, one.blocked) for one in cannot)]


def set_all(wanted: Sequence[Setting], system: System, at: Path) -> list[Change]:
    """Sets what a check found to differ, the journal first. Errors: UsageError, with nothing changed."""
    if not wanted:
        return []
    with journal.locked(at, make=True):
        kept = _current(journal.load(at), system, at)
        # Another one may have raised a value between the check and the lock.
        stale = [one for one in wanted if not same(one.key, system.seen(one.key), one.now or "")]
        fresh = [one for one in wanted if one not in stale]
        planned = [Entry(name=one.name, key=one.key, before=one.now or "", ours=[one.wanted or ""]) for one in fresh]
        beside = [entry for one in fresh if one.name == CHANNELS for entry in _of_queues(one, system)]
        _store(at, system, journal.merged(kept, [*beside, *planned]))
        changes = [_set(one, system) for one in fresh]
        done = [_done(entry, change) for entry, change in zip(planned, changes, strict=True)]
        drifted = [_drifted(entry, system) for entry in beside]
        _finish(at, system, journal.merged(kept, [entry for entry in (*drifted, *done) if entry is not None]))
    return [*changes, *(_failed(one, "somebody has changed it just now: apply again") for one in stale)]


def _wanted(found: HostCheck) -> list[Setting]:
    return [one for one in found.settings if one.state == "differs" and not one.blocked]


def _of_queues(channels: Setting, system: System) -> list[Entry]:
    """The settings of a device that its driver may reset with its channels. They are restored behind these."""
    interface = channels.key.split(":")[1]
    keys = [key for file in _OF_QUEUES for key in system.keys(f"/sys/class/net/{interface}/queues/*/{file}")]
    keys += [f"ethtool:{interface}:{what}" for what in (ethtool.RX_RING, *ethtool.HASHES)]
    found = [(key, system.seen(key)) for key in keys]
    return [Entry(name=re.split("[/:]", key)[-1], key=key, before=now, ours=[]) for key, now in found if now]


def _drifted(entry: Entry, system: System) -> Entry | None:
    """A setting beside that is not as before any more, or None."""
    return None if same(entry.key, system.seen(entry.key), entry.before) else entry


def undo(system: System, at: Path, *, force: bool = False, only: Collection[str] | None = None) -> list[Undone]:
    """Restores what the journal lists, the last change first; it then keeps only what could not be restored.

    `only`: these keys, and keeps the others. `force`: also what somebody else has changed since. Errors: UsageError
    where there is no journal, or no valid one.
    """
    with journal.locked(at, make=False):
        kept = journal.load(at)
        if kept is None:
            raise UsageError(
                f"nothing to undo: there is no journal '{at}', which 'flatout host apply' writes (elsewhere: --journal)"
            )
        # What flatout set before a reboot is gone; the same value now is somebody else's.
        same_boot = kept.boot_id == system.boot_id()
        here = not same_boot or kept.namespace == system.namespace()
        if not here and not any(of_the_host(one.key) for one in kept.entries):
            raise _elsewhere(kept, at)
        judged = [
            _judge(one, system, own=same_boot, force=force) if here or of_the_host(one.key) else _foreign(one, kept)
            for one in reversed(kept.entries)
            if only is None or one.key in only
        ]
        undone = [_restore(one, system) for one in judged]
        done = {one.key for one in undone if one.how not in ("left", "failed")}
        entries = [one for one in kept.entries if one.key not in done]
        _finish(at, system, entries, kept)
    return undone


def _current(kept: Journal | None, system: System, at: Path) -> Sequence[Entry]:
    """What an earlier apply of this boot has changed: a reboot has undone older ones."""
    if kept is None or kept.boot_id != system.boot_id():
        return ()
    if kept.namespace != system.namespace():
        raise _elsewhere(kept, at)
    return kept.entries


def _elsewhere(kept: Journal, at: Path) -> UsageError:
    return UsageError(
        f"the journal '{at}' is of another network namespace ({kept.namespace}): run there, or name another file "
        "with --journal; where that namespace is gone, `flatout host undo` restores what is of the whole host, and the "
        "rest of the file can be removed"
    )


def _foreign(one: Entry, kept: Journal) -> Undone:
    why = f"it is of another network namespace ({kept.namespace}): run there, or remove the journal where that is gone"
    return _undone(one, "", "failed", why)


def _store(at: Path, system: System, entries: Sequence[Entry]) -> None:
    saved_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    new = Journal(
        flatout=VERSION,
        saved_at=saved_at,
        boot_id=system.boot_id(),
        namespace=system.namespace(),
        entries=list(entries),
    )
    try:
        journal.store(at, new)
    except OSError as error:
        raise journal.unwritable(at, error) from error


def _finish(at: Path, system: System, entries: Sequence[Entry], kept: Journal | None = None) -> None:
    """Leaves what can still be undone; `kept`: of which boot that is, where it is not this one."""
    try:
        if not entries:
            journal.remove(at)
        elif kept is None:
            _store(at, system, entries)
        elif list(entries) != kept.entries:
            journal.store(at, msgspec.structs.replace(kept, entries=list(entries)))
    except OSError as error:
        raise UsageError(f"the journal '{at}' cannot be brought up to date: {error.strerror}") from error


def _set(one: Setting, system: System) -> Change:
    before, wanted = one.now or "", one.wanted or ""
    failed = ""
    try:
        system.write(one.key, wanted)
    except (OSError, ValueError) as error:
        failed = because(error)
    try:
        after = system.read(one.key)
    except OSError as error:
        return Change(one.name, one.key, before, wanted, failed or because(error))
    if not failed and not same(one.key, after, wanted):
        failed = f"the kernel made {after} of {wanted}"
    return Change(one.name, one.key, before, after, failed)


def _done(entry: Entry, change: Change) -> Entry | None:
    """What there is to undo: also what a failed write has left half done."""
    if same(entry.key, change.after, entry.before):
        return None
    return entry if not change.failed else msgspec.structs.replace(entry, ours=[*entry.ours, change.after])


def _failed(one: Setting, why: str) -> Change:
    return Change(one.name, one.key, one.now or "", one.now or "", why or "not known")


def _judge(one: Entry, system: System, *, own: bool, force: bool) -> Undone:
    """What is to become of an entry; "restored" where it is to be restored. Judged before anything is restored."""
    try:
        now = system.read(one.key)
    except FileNotFoundError:
        return _undone(one, "", "gone")
    except OSError as error:
        return _undone(one, "", "gone" if error.errno == errno.ENODEV else "failed", because(error))
    if same(one.key, now, one.before):
        return _undone(one, now, "as before")
    if force or (own and _is_ours(one, now)):
        return _undone(one, now, "restored")
    if not own:
        return _undone(one, now, "reset")
    return _undone(one, now, "left", f"flatout had set {one.ours[-1]}, and somebody has changed it since")


def _restore(judged: Undone, system: System) -> Undone:
    """Restores a value; one that was as before is looked at again, for channels that were restored may change it."""
    if judged.how not in ("restored", "as before"):
        return judged
    try:
        if not same(judged.key, system.read(judged.key), judged.before):
            system.write(judged.key, judged.before)
        after = system.read(judged.key)
    except FileNotFoundError:
        return judged._replace(how="gone")
    except (OSError, ValueError) as error:
        return judged._replace(how="failed", reason=because(error))
    if not same(judged.key, after, judged.before):
        return judged._replace(now=after, how="failed", reason=f"the kernel made {after} of it")
    return judged


def _is_ours(one: Entry, now: str) -> bool:
    if one.key in netfilter.KEYS:
        return netfilter.own(now, one.before, *one.ours)
    # None: apply stopped before it saw what the driver had made of it.
    return not one.ours or any(same(one.key, now, value) for value in one.ours)


def _undone(one: Entry, now: str, how: How, why: str = "") -> Undone:
    return Undone(one.name, one.key, one.before, now, how, why)
