"""Reads zone files (RFC 1035, section 5) with dnspython: finds the zone's name, and follows $INCLUDE in its own folder.

Method: dnspython's reader gets the text part by part, cut at each $INCLUDE, so that an included file is checked before
it is opened. A first pass ends at the SOA, whose owner names the zone; the second one reads the records.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, cast

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.transaction
import dns.zone
import dns.zonefile

from flatout import text_files
from flatout.errors import UsageError

_INCLUDE = re.compile(r"^\$INCLUDE(?![^\s;])[^\n]*", re.MULTILINE | re.IGNORECASE)
_GENERATE = re.compile(r"^\$GENERATE[ \t]+([0-9]+)-([0-9]+)(?:/([0-9]+))?", re.MULTILINE | re.IGNORECASE)
# More would take minutes to read, and much memory.
_MOST_GENERATED = 1_000_000
# Deeper nesting, or more files, is an accident.
_DEEPEST = 10
_MOST_INCLUDES = 1000
# What relative names are relative to before any $ORIGIN, while the zone's name is unknown: no zone has this name.
_NOWHERE = dns.name.Name((b"\0", b""))
# How dnspython begins some of its errors.
_PREFIX = re.compile(r"^\S*:[0-9]+: |caught exception <class '[^']*'>: ")


def read(path: str) -> dns.zone.Zone:
    """The zone of a file, named by its SOA's owner. Errors: UsageError, with the file and the line."""
    files = _Files(path)
    apex = _apex(path, files)
    zone = dns.zone.Zone(apex, relativize=False)
    with zone.writer(True) as transaction:
        files.read_into(_reader(transaction))
    return zone


def _apex(path: str, files: _Files) -> dns.name.Name:
    """The zone's name: the owner of its SOA record, whatever the origin was then."""
    # An unknown TTL is no error yet: the second pass says it.
    reader = _reader(cast(dns.transaction.Transaction, _SoaFinder()), default_ttl=0)
    reader.current_origin = reader.last_name = _NOWHERE
    try:
        files.read_into(reader)
    except _SoaFound as found:
        if found.owner.is_subdomain(_NOWHERE):
            raise UsageError(
                f"zone {path}: it does not say whose names these are: its SOA record stands at "
                f"'{found.owner.relativize(_NOWHERE)}'; begin with $ORIGIN, as in '$ORIGIN example.com.'"
            ) from None
        return found.owner
    raise UsageError(f"zone {path}: no SOA record, and a zone has one at its top")


def _reader(transaction: dns.transaction.Transaction, **more: Any) -> dns.zonefile.Reader:
    return dns.zonefile.Reader(dns.tokenizer.Tokenizer(""), dns.rdataclass.IN, transaction, **more)


class _SoaFound(Exception):
    """Ends the first pass: the SOA's owner is known."""

    def __init__(self, owner: dns.name.Name) -> None:
        self.owner = owner


class _SoaFinder:
    """Takes the place of a transaction; the first SOA record ends the reading."""

    @property
    def manager(self) -> _SoaFinder:
        return self

    def origin_information(self) -> tuple[dns.name.Name, bool, dns.name.Name]:
        return dns.name.root, False, dns.name.root

    def add(self, owner: dns.name.Name, _ttl: int, rdata: dns.rdata.Rdata) -> None:
        if rdata.rdtype == dns.rdatatype.SOA:
            raise _SoaFound(owner)

    def check_put_rdataset(self, _check: object) -> None:
        """Records are not kept, so there is nothing to check."""

    def add_unicode(self, _word: str) -> None:
        """The spelling of names is of no interest."""

    def _set_origin(self, _origin: dns.name.Name) -> None:
        """The reader knows its origin."""


class _Files:
    """A zone file and what it includes, as often as they are read. Each file is opened once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = Path(path).resolve().parent
        self._texts: dict[Path, str] = {}
        self._included = 0

    def read_into(self, reader: dns.zonefile.Reader) -> None:
        """Has the reader read all of it."""
        self._included = 0
        self._read(reader, Path(self._path), ())

    def _read(self, reader: dns.zonefile.Reader, path: Path, above: tuple[Path, ...]) -> None:
        text = self._text(path)
        line, at = 1, 0
        for found in _INCLUDE.finditer(text):
            self._read_part(reader, path, text[at : found.start()], line)
            line += text.count("\n", at, found.start())
            self._include(reader, found[0], (*above, path), line)
            at = found.end()
        self._read_part(reader, path, text[at:], line)

    def _text(self, path: Path) -> str:
        if path not in self._texts:
            self._texts[path] = text_files.read(path, f"zone {self._beside(path)}")
        return self._texts[path]

    def _read_part(self, reader: dns.zonefile.Reader, path: Path, text: str, line: int) -> None:
        for found in _GENERATE.finditer(text):
            if _is_too_many(*found.groups()):
                at = line + text.count("\n", 0, found.start())
                raise self._error(path, at, f"$GENERATE makes at most {_MOST_GENERATED:,} records")
        stream = io.StringIO(text)
        reader.tok = dns.tokenizer.Tokenizer(stream, "")
        try:
            reader.read()
        except (dns.exception.DNSException, ValueError, AssertionError) as error:
            # The reader may have taken the newline already, which still belongs to the line at fault.
            line += text.count("\n", 0, max(stream.tell() - 1, 0))
            raise self._error(path, line, _why(error)) from error

    def _include(self, reader: dns.zonefile.Reader, directive: str, above: tuple[Path, ...], line: int) -> None:
        """Reads the file of one $INCLUDE. Of what it sets only the origin and the owner end with it."""
        here = above[-1]
        before = reader.current_origin, reader.last_name
        try:
            name, origin = _operands(directive, before[0])
        except (dns.exception.DNSException, ValueError) as error:
            why = f"{_why(error)}; write it like $INCLUDE hosts.zone, or $INCLUDE hosts.zone example.com."
            raise self._error(here, line, why) from error
        path = self._folder / name
        if refused := self._why_not(name, path, above):
            raise self._error(here, line, refused)
        self._included += 1
        reader.current_origin = origin
        self._read(reader, path, above)
        reader.current_origin, reader.last_name = before

    def _why_not(self, name: str, path: Path, above: tuple[Path, ...]) -> str | None:
        """Why a file may not be included; None: it may."""
        try:
            real = path.resolve()
            there, regular = real.exists(), real.is_file()
        except (OSError, ValueError, RuntimeError) as error:
            return f"$INCLUDE {name}: {getattr(error, 'strerror', None) or error}"
        seen = [other.resolve() for other in above]
        if not real.is_relative_to(self._folder):
            outside = f" leads to {real}, which" if real != path else ""
            why = f"{outside} is not in the zone's own folder {self._folder} or below: copy it there"
        elif not there:
            why = f": there is no such file in {self._folder}"
        elif not regular:
            why = ": this is no file"
        elif real in seen:
            circle = [*seen[seen.index(real) :], real]
            why = " closes a circle: " + " includes ".join(other.name for other in circle)
        elif len(above) > _DEEPEST:
            why = f": files are included at most {_DEEPEST} deep"
        else:
            why = f": at most {_MOST_INCLUDES:,} files are included" if self._included == _MOST_INCLUDES else ""
        return f"$INCLUDE {name}{why}" if why else None

    def _beside(self, path: Path) -> str:
        """The zone's path, and that of the included file where it is one."""
        return self._path if path == Path(self._path) else f"{self._path}, file {path}"

    def _error(self, path: Path, line: int, why: str) -> UsageError:
        return UsageError(f"zone {self._beside(path)}, line {line}: {why}")


def _operands(directive: str, origin: dns.name.Name | None) -> tuple[str, dns.name.Name | None]:
    """The file and the origin of an $INCLUDE."""
    tokens = dns.tokenizer.Tokenizer(directive.partition("$")[2][len("INCLUDE") :], "")
    name = tokens.get()
    if not (name.is_identifier() or name.is_quoted_string()) or not name.value:
        raise ValueError("$INCLUDE names no file")
    token = tokens.get()
    if not token.is_eol_or_eof():
        origin = tokens.as_name(token, origin)
        tokens.get_eol()
    return name.unescape().value, origin


def _is_too_many(first: str, last: str, step: str | None) -> bool:
    """Whether a range of $GENERATE has too many numbers. What dnspython refuses itself is not."""
    if max(map(len, (first, last, step or "1"))) > 18:
        return True
    return int(last) - int(first) >= _MOST_GENERATED * max(int(step or 1), 1)


def _why(error: Exception) -> str:
    text = _PREFIX.sub("", str(error))
    return "a second SOA record: a zone has one" if "non-origin SOA" in text else text or "this makes no sense"
