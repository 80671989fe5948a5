"""Sets what differs from an aim's needs, the journal first; and undoes it by the journal.

Method: all values that are about to change are on the disk before the first one is changed, so a crash at any point
leaves enough to undo. A value is restored only while it is one that flatout has set; each is read back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from flatout.errors import UsageError
from flatout.host.describe import VERSION
from flatout.host.tuning import journal
from flatout.host.tuning.check import HostCheck, Setting
from flatout.host.tuning.journal import Entry, Journal
from flatout.host.tuning.rules import same
from flatout.host.tuning.system import System, reason

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


def apply(found: HostCheck, system: System, at: Path) -> list[Change]:
    """Sets what differs; returns what was changed and what could not be. Errors: UsageError, with nothing changed."""
    differing = [one for one in found.settings if one.state in ("differs", "unknown")]
    wanted = [one for one in differing if one.state == "differs" and not one.blocked]
    failed = [_failed(one, one.blocked) for one in differing if one not in wanted]
    if not wanted:
        return failed
    with journal.locked(at, make=True):
        kept = _current(journal.load(at), system, at)
        planned = [Entry(name=one.name, key=one.key, before=one.now or "", ours=[one.wanted or ""]) for one in wanted]
        _store(at, system, journal.merged(kept, planned))
        changes = [_set(one, system) for one in wanted]
        done = [_done(entry, change) for entry, change in zip(planned, changes, strict=True)]
        _finish(at, system, journal.merged(kept, [entry for entry in done if entry is not None]))
    return [*changes, *failed]


def undo(system: System, at: Path, *, force: bool = False) -> list[Undone]:
    """Restores what the journal lists, the last change first; it then keeps only what could not be restored.

    `force`: also what somebody else has changed since. Errors: UsageError where there is no journal, or no valid one.
    """
    with journal.locked(at, make=False):
        kept = journal.load(at)
        if kept is None:
            raise UsageError(
                f"nothing to undo: there is no journal '{at}', which 'flatout host apply' writes (elsewhere: --journal)"
            )
        _check_namespace(kept, system, at)
        # What flatout set before a reboot is gone; the same value now is somebody else's.
        same_boot = kept.boot_id == system.boot_id()
        undone = [_restore(one, system, own=same_boot, force=force) for one in reversed(kept.entries)]
        left = {one.key for one in undone if one.how in ("left", "failed")}
        entries = [one for one in kept.entries if one.key in left]
        _finish(at, system, entries, kept)
    return undone


def _current(kept: Journal | None, system: System, at: Path) -> Sequence[Entry]:
    """What an earlier apply of this boot has changed: a reboot has undone older ones."""
    if kept is None or kept.boot_id != system.boot_id():
        return ()
    _check_namespace(kept, system, at)
    return kept.entries


def _check_namespace(kept: Journal, system: System, at: Path) -> None:
    if kept.namespace != system.namespace() and kept.boot_id == system.boot_id():
        raise UsageError(
            f"the journal '{at}' is of another network namespace ({kept.namespace}): run there, or name another file "
            "with --journal; where that namespace is gone, its settings are too: remove the file"
        )


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
        failed = _why(error)
    try:
        after = system.read(one.key)
    except OSError as error:
        return Change(one.name, one.key, before, wanted, failed or _why(error))
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


def _restore(one: Entry, system: System, *, own: bool, force: bool) -> Undone:
    try:
        now = system.read(one.key)
    except FileNotFoundError:
        return _undone(one, "", "gone")
    except OSError as error:
        return _undone(one, "", "failed", _why(error))
    if same(one.key, now, one.before):
        return _undone(one, now, "as before")
    ours = own and any(same(one.key, now, value) for value in one.ours)
    if ours or force:
        return _put_back(one, now, system)
    if not own:
        return _undone(one, now, "reset")
    return _undone(one, now, "left", f"flatout had set {one.ours[-1]}, and somebody has changed it since")


def _put_back(one: Entry, now: str, system: System) -> Undone:
    try:
        system.write(one.key, one.before)
        after = system.read(one.key)
    except (OSError, ValueError) as error:
        return _undone(one, now, "failed", _why(error))
    if not same(one.key, after, one.before):
        return _undone(one, after, "failed", f"the kernel made {after} of it")
    return _undone(one, now, "restored")


def _undone(one: Entry, now: str, how: How, why: str = "") -> Undone:
    return Undone(one.name, one.key, one.before, now, how, why)


def _why(error: OSError | ValueError) -> str:
    """The reason of a failed write, in words; what programs report is passed on."""
    number = getattr(error, "errno", None)
    text = getattr(error, "strerror", None) or str(error)
    return text if ":" in text else reason(number) if number else text
