"""Settings of a network device that only the ioctl SIOCETHTOOL has: channels, receive ring, flow hash, coalescing.

Their values are texts that the program `ethtool` takes as arguments, such as "rx 2 tx 2", "combined 4" or "sdfn".
Layouts are those of include/uapi/linux/ethtool.h; every structure here is a row of 32-bit words.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Mapping

CHANNELS, RX_RING, COALESCING = "channels", "rx-ring", "coalescing"
HASHES = {"udp4-hash": 2, "udp6-hash": 6}
_SIOCETHTOOL, _SIOCGIFHWADDR = 0x8946, 0x8927
_GDRVINFO, _GCOALESCE, _GRINGPARAM, _SRINGPARAM = 0x03, 0x0E, 0x10, 0x11
_GRXFH, _SRXFH, _GCHANNELS, _SCHANNELS = 0x29, 0x2A, 0x3C, 0x3D
# Longest structure that is asked for: ethtool_rxnfc, 192 bytes and more.
_WORDS = 64
# The word of the number now; the word of the most is four before it.
_KINDS = {"rx": 5, "tx": 6, "combined": 8}
_RING_MOST, _RING_NOW = 1, 5
_RX_USECS, _ADAPTIVE_RX = 1, 10
# The letters of `ethtool -N IF rx-flow-hash`, by the bit of each field.
_FIELDS = {"m": 1 << 1, "v": 1 << 2, "t": 1 << 3, "s": 1 << 4, "d": 1 << 5, "f": 1 << 6, "n": 1 << 7, "r": 1 << 31}

# Asks an interface: the words go to the kernel, and come back with its answer. Errors: OSError.
Ioctl = Callable[[str, "array.array[int]"], None]


def ioctl(interface: str, words: array.array[int]) -> None:
    """Asks the kernel. Errors: OSError, EOPNOTSUPP where the driver does not have it."""
    asked = struct.pack("16sP16x", os.fsencode(interface)[:15], words.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket.fileno(), _SIOCETHTOOL, asked)


def hardware() -> dict[str, str]:
    """The network devices of this process's namespace, each with its hardware address as /sys writes it."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFHWADDR, struct.pack("16s24x", os.fsencode(name)))
                found[name] = answer[18:24].hex(":")
    return found


def driver(interface: str, ioctl: Ioctl) -> str:
    """The driver of a network interface, such as "veth"; empty where it has none."""
    try:
        return _asked(interface, ioctl, _GDRVINFO).tobytes()[4:36].split(b"\0")[0].decode("ascii", "replace")
    except OSError:
        return ""


def channels(interface: str, ioctl: Ioctl) -> Mapping[str, tuple[int, int]]:
    """Of each kind of channel the number now and the most; empty where the driver has none to set."""
    try:
        words = _asked(interface, ioctl, _GCHANNELS)
    except OSError:
        return {}
    return {kind: (words[now], words[now - 4]) for kind, now in _KINDS.items() if words[now - 4]}


def ring(interface: str, ioctl: Ioctl) -> tuple[int, int] | None:
    """Packets that the receive ring holds now, and at most; None where the driver has none to set."""
    try:
        words = _asked(interface, ioctl, _GRINGPARAM)
    except OSError:
        return None
    return (words[_RING_NOW], words[_RING_MOST]) if words[_RING_MOST] else None


def read(interface: str, what: str, ioctl: Ioctl) -> str:
    """The value now. Errors: OSError, with a text where the driver does not have it."""
    text = ""
    try:
        if what == CHANNELS:
            words = _asked(interface, ioctl, _GCHANNELS)
            text = " ".join(f"{kind} {words[now]}" for kind, now in _KINDS.items() if words[now])
        elif what == RX_RING:
            words = _asked(interface, ioctl, _GRINGPARAM)
            text = f"rx {words[_RING_NOW]}" if words[_RING_MOST] else ""
        elif what == COALESCING:
            words = _asked(interface, ioctl, _GCOALESCE)
            text = f"rx-usecs {words[_RX_USECS]} adaptive-rx {'on' if words[_ADAPTIVE_RX] else 'off'}"
        else:
            text = _letters(_hash(interface, what, ioctl)[2])
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    if not text:
        raise OSError(errno.EOPNOTSUPP, f"{interface}: its driver has no {_CALLED[what]} to set")
    return text


def write(interface: str, what: str, value: str, ioctl: Ioctl) -> None:
    """Sets a value, and leaves the others of its structure. Errors: OSError; ValueError for a text that is none."""
    if what in HASHES:
        words = _hash(interface, what, ioctl)
        words[0], words[2] = _SRXFH, sum(_FIELDS[letter] for letter in _checked(r"[mvtsdfnr]+", value))
        ioctl(interface, words)
        return
    asked, set_, where = {
        CHANNELS: (_GCHANNELS, _SCHANNELS, _KINDS),
        RX_RING: (_GRINGPARAM, _SRINGPARAM, {"rx": _RING_NOW}),
    }[what]
    parts = _checked(r"(?:rx|tx|combined) \d{1,9}(?: (?:rx|tx|combined) \d{1,9})*", value).split()
    words = _asked(interface, ioctl, asked)
    for kind, number in zip(parts[::2], parts[1::2], strict=True):
        words[where[kind]] = int(number)
    words[0] = set_
    ioctl(interface, words)


def command(interface: str, what: str, value: str) -> list[str]:
    """The same with the program `ethtool`."""
    if what in HASHES:
        return ["ethtool", "-N", interface, "rx-flow-hash", what.removesuffix("-hash"), value]
    return ["ethtool", "-L" if what == CHANNELS else "-G", interface, *value.split()]


_CALLED = {
    CHANNELS: "channels",
    RX_RING: "receive ring",
    COALESCING: "interrupt coalescing",
    **dict.fromkeys(HASHES, "UDP flow hash"),
}


def _asked(interface: str, ioctl: Ioctl, command: int) -> array.array[int]:
    words = array.array("I", [command] + [0] * (_WORDS - 1))
    ioctl(interface, words)
    return words


def _hash(interface: str, what: str, ioctl: Ioctl) -> array.array[int]:
    """Words of ethtool_rxnfc: command, kind of flow, and the fields in 64 bits, of which the lower half is used."""
    words = array.array("I", [_GRXFH, HASHES[what]] + [0] * (_WORDS - 2))
    ioctl(interface, words)
    return words


def _letters(fields: int) -> str:
    return "".join(letter for letter, bit in _FIELDS.items() if fields & bit)


def _checked(pattern: str, value: str) -> str:
    if re.fullmatch(pattern, value, re.ASCII) is None:
        raise ValueError(f"'{value}' is no value of it")
    return value
