"""Which requests a server answers: rates of clients, lists of prefixes, bandwidth; from text to the engine."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flatout import text_files, units
from flatout.errors import UsageError
from flatout.server.quota import Quota

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = tuple[Address, int, str]
_PER = re.compile(r"\s*([0-9.]+)\s*/\s*([0-9].*)")


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server over datagrams; as they are nothing is limited.

    `client_rate`: requests of one client a second, as a number or text ("10", "1/8s"); None: no limit.
    `client_burst`: how many of them at once. `client_leak`: one in so many above the rate is answered nevertheless, so
    that a forger of an address cannot silence its owner; 0: none.
    `client_prefix`: the bits of an address that make a client, IPv4/IPv6: "32/64".
    `clients`: how many clients are known at once; 48 bytes each.
    `kod`: some requests above the rate get a kiss-o'-death (RATE), at most one in 2 s a client and 50 a second and
    worker.
    `allow`, `deny`, `monitors`: prefixes ("192.0.2.0/24"), or files with one a line. The longest prefix decides; with
    `allow`, an address that none covers is denied. `monitors` are always answered, before all others.
    `max_rate`: the bandwidth of answers with IP headers, as a number of bits a second or text ("100Mbps").
    `quota`: bytes of answers with IP headers in a calendar month or day (UTC): "4TB/month".
    """

    client_rate: float | str | None = None
    client_burst: int = 8
    client_leak: int = 4
    client_prefix: str = "32/64"
    clients: int | str = "256k"
    kod: bool = False
    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    monitors: Sequence[str] = ()
    max_rate: float | str | None = None
    quota: str | None = None

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        given = (self.client_rate, self.max_rate, self.quota)
        return any(value is not None for value in given) or bool(self.allow or self.deny or self.monitors)


class Admission(NamedTuple):
    """The limits as the engine takes them."""

    prefixes: list[Prefix]
    only_allowed: bool
    client_per_s: float
    client_burst: int
    client_leak: int
    kiss: bool
    v4_bits: int
    v6_bits: int
    bytes_per_s: int | None
    clients: int


def admission(limits: Limits, *, kisses: bool) -> Admission:
    """The limits for the engine. `kisses`: whether the protocol has a kiss-o'-death. Errors: UsageError."""
    if limits.kod and not kisses:
        raise UsageError("kod: this protocol has no kiss-o'-death")
    v4_bits, v6_bits = _bits(limits.client_prefix)
    lists = (("allow", limits.allow), ("deny", limits.deny), ("first", limits.monitors))
    bandwidth = max_rate(limits)
    return Admission(
        prefixes=[prefix for word, texts in lists for prefix in prefixes(word, texts)],
        only_allowed=bool(limits.allow),
        client_per_s=client_rate(limits.client_rate),
        client_burst=units.whole("client_burst", limits.client_burst, 1 << 20),
        client_leak=0 if limits.client_leak == 0 else units.whole("client_leak", limits.client_leak, 1 << 20),
        kiss=limits.kod,
        v4_bits=v4_bits,
        v6_bits=v6_bits,
        bytes_per_s=None if bandwidth is None else round(bandwidth),
        clients=units.whole("clients", limits.clients, 1 << 26) if limits.any else 0,
    )


def client_rate(given: float | str | None) -> float:
    """Requests per s: a number, "10", "5k" or "1/8s"; 0 for None. Errors: UsageError."""
    if given is None:
        return 0.0
    text = str(given)
    per = _PER.fullmatch(text)
    if per is None or per[2].strip() == "s":
        return units.rate(text)
    seconds = units.duration(per[2])
    rate = float(per[1]) / seconds if seconds > 0 and per[1].count(".") < 2 and per[1] != "." else 0.0
    if not 1e-6 <= rate <= 1e6:
        raise UsageError(f"client rate '{text}': write requests per second such as 10 or 0.5, or 1/8s")
    return rate


def max_rate(limits: Limits) -> float | None:
    """The bandwidth in bytes per s; None: no limit. Errors: UsageError."""
    return None if limits.max_rate is None else units.bandwidth(str(limits.max_rate))


def quota(limits: Limits) -> Quota | None:
    """The quota; None: there is none. Errors: UsageError."""
    return None if limits.quota is None else Quota.parse(limits.quota)


def prefixes(word: str, texts: Sequence[str]) -> Iterator[Prefix]:
    """Prefixes of texts, each a prefix, several with commas between, or the name of a file. Errors: UsageError."""
    for text in [texts] if isinstance(texts, str) else texts:
        for part in text.split(","):
            try:
                yield _prefix(part.strip(), word)
            except ValueError as error:
                if not os.path.exists(part):
                    raise UsageError(f"'{part}' is no prefix such as 192.0.2.0/24, and no file") from error
                yield from _of_file(part, word)


def _of_file(path: str, word: str) -> Iterator[Prefix]:
    for number, line in enumerate(text_files.read(path, f"the list '{path}'").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                yield _prefix(text, word)
            except ValueError as error:
                raise UsageError(f"{path}, line {number}: '{text}' is no prefix such as 192.0.2.0/24") from error


def _prefix(text: str, word: str) -> Prefix:
    network = ipaddress.ip_network(text, strict=False)
    return network.network_address, network.prefixlen, word


def _bits(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*/?([0-9]{1,3})\s*[/,]\s*/?([0-9]{1,3})\s*", text)
    bits = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1 <= bits[0] <= 32 and 1 <= bits[1] <= 64):
        raise UsageError(f"client prefix '{text}': write the bits for IPv4 (1 to 32) and IPv6 (1 to 64), such as 32/64")
    return bits
