"""The journal of changes to a host: what was there before, on disk before anything is changed.

A JSON file with a checksum, written whole and synced with its folder. It says of which boot and of which network
namespace its values are; a file that somebody has edited is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from flatout.errors import UsageError
from flatout.exclusive import exclusive
from flatout.host.tuning.tunables import settable
from flatout.result.model import SCHEMA

DEFAULT = "/var/lib/flatout/host.json"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that was changed, or was about to be. `before`: its first value; `ours`: what flatout has set."""

    name: str
    key: str
    before: str
    ours: list[str]


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """All changes of one boot in one network namespace, in their order."""

    schema: str = SCHEMA
    kind: Literal["host-journal"] = "host-journal"
    flatout: str
    saved_at: str
    boot_id: str
    namespace: str
    entries: list[Entry]


class _File(msgspec.Struct, frozen=True):
    """The file: the checksum is over the bytes of the journal."""

    sha256: str
    journal: msgspec.Raw


def load(at: Path) -> Journal | None:
    """The journal, or None where there is none. Errors: UsageError for a file that flatout did not leave like this."""
    try:
        data = _read(at)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = " (run as root)" if isinstance(error, PermissionError) else ""
        raise UsageError(f"the journal '{at}' cannot be read: {error.strerror}{hint}") from error
    try:
        file = msgspec.json.decode(data, type=_File)
        body = bytes(file.journal)
        if file.sha256 != hashlib.sha256(body).hexdigest():
            raise ValueError("its checksum does not fit")
        journal = msgspec.json.decode(body, type=Journal)
        if journal.schema != SCHEMA or not all(settable(one.key) for one in journal.entries):
            raise ValueError("it has entries of another kind")
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the journal '{at}' was changed or damaged since flatout wrote it ({error}); nothing is changed: "
            "set the values by hand that it lists as 'before', then remove it"
        ) from error
    return journal


def store(at: Path, journal: Journal) -> None:
    """Writes it whole, and returns once it is on the disk. Errors: OSError."""
    body = msgspec.json.format(msgspec.json.encode(journal), indent=1)
    data = msgspec.json.encode(_File(hashlib.sha256(body).hexdigest(), msgspec.Raw(body))) + b"\n"
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=at.parent, prefix=".flatout-", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, at)
    except BaseException:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise
    _sync(at.parent)


def remove(at: Path) -> None:
    """Removes it. Errors: OSError."""
    at.unlink(missing_ok=True)
    _sync(at.parent)


@contextlib.contextmanager
def locked(at: Path, *, make: bool) -> Iterator[None]:
    """Holds the journal's folder against another flatout. `make`: make the folder. Errors: UsageError."""
    try:
        if make:
            at.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(at.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Nothing was ever written, so there is nothing to hold.
        yield
        return
    except OSError as error:
        raise unwritable(at, error) from error
    with exclusive(handle, f"another flatout is at the journal '{at}': wait for its end"):
        yield


@contextlib.contextmanager
def owned(at: Path, *, make: bool) -> Iterator[None]:
    """Holds a journal against others for as long as its owner means to undo it by itself: a file beside it is locked.

    `make`: make that file. Errors: UsageError where another flatout owns it.
    """
    lock = at.with_name(f"{at.name}.lock")
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
    except FileNotFoundError:
        # Without a file there is no owner.
        yield
        return
    except OSError as error:
        raise unwritable(at, error) from error
    busy = (
        f"a 'flatout limit --improve' is at work with the journal '{at}', and undoes its changes itself: wait for its "
        "end, or end it with Ctrl-C"
    )
    with exclusive(handle, busy):
        try:
            yield
        finally:
            # While it is locked nobody else owns it; who has just opened it sees that the name is gone.
            lock.unlink(missing_ok=True)


def unwritable(at: Path, error: OSError) -> UsageError:
    """The error of a journal that cannot be written before a change."""
    hint = "run as root, or name another file with --journal"
    return UsageError(f"the journal '{at}' cannot be written: {error.strerror}; nothing is changed: {hint}")


def merged(kept: Sequence[Entry], planned: Sequence[Entry]) -> list[Entry]:
    """The entries of an earlier apply and of this one: the first value of each setting stays."""
    found = {one.key: one for one in kept}
    for new in planned:
        old = found.get(new.key)
        found[new.key] = new if old is None else msgspec.structs.replace(old, ours=[*old.ours, *new.ours])
    return list(found.values())


def _read(at: Path) -> bytes:
    """The bytes of a file that nobody else can have written. Errors: OSError; UsageError for what others can write."""
    try:
        handle = os.open(at, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"the journal '{at}' is a symbolic link, and flatout writes none: name the file"
            ) from error
        raise
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise UsageError(f"the journal '{at}' is no file")
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o022:
            raise UsageError(
                f"the journal '{at}' can be written by others than root, so its values may be anybody's; nothing is "
                "changed: look at its values 'before', then chown and chmod it"
            )
        return file.read()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
