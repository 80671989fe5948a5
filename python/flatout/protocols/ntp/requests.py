"""NTP's options as the engine takes them: extension fields, keys from key files, offsets. Sends nothing."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from flatout import text_files, units
from flatout.errors import UsageError

# As crates/wire/src/ntp/options.rs numbers and bounds them.
_ALGORITHMS = {"M": 1, "MD5": 1, "SHA1": 2, "AES128": 3, "AES128CMAC": 3}
_FIELDS_MAX, _KEY_MAX, _REQUEST_MAX = 8, 64, 1400
_HEADER, _LONGEST_MAC = 48, 24
_AES_KEY = 16
# A longer key without a prefix is hexadecimal (ntp.keys(5)).
_ASCII_MAX = 20

Numbers = list[tuple[str, int]]


class Key(NamedTuple):
    """A symmetric key: its number, the engine's number of its algorithm, its bytes."""

    number: int
    algorithm: int
    secret: bytes


def numbers_of(options: Any) -> Numbers:
    """All options of `load ntp` as names and whole numbers. Errors: UsageError, also for a key file."""
    found: Numbers = [("version", options.version), ("mode", options.mode), ("interleaved", int(options.interleaved))]
    if options.interleaved and (options.version, options.mode) != (4, 3):
        raise UsageError("--interleaved is for version 4 and mode 3 (RFC 9769): leave --version and --mode out")
    found += [("offset", int(options.offset)), ("correction_ns", _correction_ns(options))]
    fields = [] if options.extension_field is None else extension_fields(options.extension_field)
    if fields and options.version != 4:
        raise UsageError("--extension-field is for version 4: earlier versions have no extension fields (RFC 7822)")
    if fields and options.key_file is None and fields[-1][1] < 28:
        raise UsageError("the last --extension-field needs 28 bytes: shorter, it would be taken for a MAC (RFC 7822)")
    found += [("field", kind << 16 | length) for kind, length in fields]
    if options.key_file is not None:
        found += _key_numbers(key_of(options.key_file, options.key_id))
    elif options.key_id is not None:
        raise UsageError("--key-id names a key of a file: give --key-file as well")
    return found


def _correction_ns(options: Any) -> int:
    text = options.offset_correction
    if text is None:
        return 0
    if not options.offset:
        raise UsageError("--offset-correction is subtracted from offsets: give --offset as well")
    sign, size = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * round(units.duration(size) * 1e9)


def extension_fields(text: str) -> list[tuple[int, int]]:
    """Types and lengths of `F323:28` or `0xF323:28,0204:16`: a hexadecimal type, and bytes with the field's own four.

    Errors: UsageError.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:0x)?([0-9a-fA-F]{1,4}):([0-9]{1,4})\s*", part)
        length = int(match[2]) if match else 0
        if not match or length < 16 or length % 4:
            raise UsageError(
                f"extension field '{part.strip()}': write TYPE:LENGTH like F323:28, the type in hexadecimal, the "
                "length in bytes, a multiple of 4 from 16 on"
            )
        found.append((int(match[1], 16), length))
    if len(found) > _FIELDS_MAX or sum(length for _, length in found) > _REQUEST_MAX - _HEADER - _LONGEST_MAC:
        raise UsageError(f"extension fields: at most {_FIELDS_MAX}, and a request has at most {_REQUEST_MAX} bytes")
    return found


def key_of(path: str, number: int | None) -> Key:
    """The key with this number, or the first one, of a key file of chrony, ntpd or NTPsec. Errors: UsageError."""
    for at, line in enumerate(text_files.read(path, f"the key file '{path}'").splitlines(), 1):
        parts = line.split()
        if not parts or parts[0][0] in "#!;%":
            continue
        if not parts[0].isdecimal() or len(parts) < 2:
            raise UsageError(f"the key file '{path}', line {at}: write NUMBER TYPE KEY, such as 1 SHA1 HEX:8899aabb")
        if number is None or int(parts[0]) == number:
            return _key(parts, f"the key file '{path}', line {at}")
    raise UsageError(f"the key file '{path}' has no key{'' if number is None else f' {number}'}")


def _key(parts: list[str], where: str) -> Key:
    # chrony takes two columns for a key of MD5.
    name, text = (parts[1].upper().replace("-", ""), parts[2]) if len(parts) > 2 else ("MD5", parts[1])
    algorithm = _ALGORITHMS.get(name)
    if algorithm is None:
        raise UsageError(f"{where}: a key is of the type MD5, SHA1 or AES128, and not {parts[1]}")
    form, _, digits = text.partition(":")
    if form.upper() not in ("HEX", "ASCII"):
        form, digits = ("HEX" if len(text) > _ASCII_MAX else "ASCII"), text
    try:
        secret = bytes.fromhex(digits) if form.upper() == "HEX" else digits.encode()
    except ValueError as error:
        raise UsageError(f"{where}: the key is not hexadecimal") from error
    if not 1 <= len(secret) <= _KEY_MAX or (algorithm == _ALGORITHMS["AES128"] and len(secret) != _AES_KEY):
        raise UsageError(f"{where}: a key has 1 to {_KEY_MAX} bytes, one of AES128 has {_AES_KEY}")
    if not 1 <= int(parts[0]) < 2**32:
        raise UsageError(f"{where}: a key's number is from 1 to 4294967295")
    return Key(int(parts[0]), algorithm, secret)


def _key_numbers(key: Key) -> Numbers:
    """A key as whole numbers: eight bytes each."""
    padded = key.secret.ljust(-(-len(key.secret) // 8) * 8, b"\0")
    words = [int.from_bytes(padded[at : at + 8], signed=True) for at in range(0, len(padded), 8)]
    head = [("key_type", key.algorithm), ("key_id", key.number), ("key_length", len(key.secret))]
    return [*head, *(("key", word) for word in words)]
