"""Zone files as the keys and values that the DNS server looks up; their layout is in crates/wire/src/dns.rs.

All that can be decided before a query comes is decided here: aliases are followed, names without data get their SOA.
Only this module and zone_file.py import dnspython.
"""

from __future__ import annotations

import ipaddress
import struct

import dns.name
import dns.node
import dns.rdata
import dns.rdataset
import dns.rdatatype
import dns.zone
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.SOA import SOA

from flatout.errors import UsageError
from flatout.protocols.dns import zone_file

Entries = list[tuple[bytes, bytes]]

_ZONES, _APEX, _ANY_NAME = b"\xfd", b"\xfe", b"\xff"
_NO_TYPE = 0
_NOERROR, _NXDOMAIN = 0, 3
_AUTHORITATIVE = 1
_ASKED = b"\xc0\x0c"
_IN = 1
_TTL = 3600
# What a message of 64 KiB has room for beside its header, the longest question, and EDNS.
_VALUE_MAX = 65535 - 12 - 259 - 11
# Aliases in a row: beyond that, the client must continue by itself.
_HOPS = 16


def answer_entries(*addresses: str) -> Entries:
    """One answer for any name."""
    entries = [(_ANY_NAME + _number(_NO_TYPE), _value([]))]
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError as error:
            raise UsageError(f"answer '{text}': give an IPv4 or IPv6 address") from error
        if "%" in text:
            raise UsageError(
                f"answer '{text}': an address in DNS has no interface, so leave out %{text.partition('%')[2]}"
            )
        kind = dns.rdatatype.A if address.version == 4 else dns.rdatatype.AAAA
        entries.append((_ANY_NAME + _number(kind), _value([_record(_ASKED, kind, _TTL, address.packed)])))
    return entries


def zone_entries(path: str) -> Entries:
    """All answers of one zone. Errors: UsageError, with the file and, for a bad line, its number."""
    zone = _Zone(path, zone_file.read(path))
    entries = [(_ZONES, b""), (_APEX + zone.key(zone.apex), _value([], [zone.soa], code=_NXDOMAIN))]
    for name, node in zone.nodes.items():
        entries += zone.answers(name, node)
    return entries


class _Zone:
    """A zone, and what of it is needed again and again."""

    def __init__(self, path: str, zone: dns.zone.Zone) -> None:
        assert zone.origin is not None
        self.path = path
        self.apex = zone.origin
        self.nodes: dict[dns.name.Name, dns.node.Node | None] = {}
        for name, node in zone.nodes.items():
            self.nodes[name] = node
            # Names between a name and the top exist, though nothing is there.
            above = name
            while above != self.apex:
                above = above.parent()
                self.nodes.setdefault(above, None)
        rdataset = zone.get_rdataset(self.apex, dns.rdatatype.SOA)
        if rdataset is None:
            raise UsageError(f"zone {path}: no SOA record for {self.apex}")
        soa = rdataset[0]
        assert isinstance(soa, SOA)
        # RFC 2308: how long a negative answer may be kept.
        self.soa = _record(_wire(self.apex), dns.rdatatype.SOA, min(rdataset.ttl, soa.minimum), _data(soa))

    @staticmethod
    def key(name: dns.name.Name) -> bytes:
        """A name as the server looks it up."""
        return _wire(name.canonicalize())

    def answers(self, name: dns.name.Name, node: dns.node.Node | None) -> Entries:
        """All answers of one name."""
        key = self.key(name)
        by_type = _by_type(node)
        answers = {kind: _value(_records(_ASKED, rdatasets)) for kind, rdatasets in by_type.items()}
        if dns.rdatatype.CNAME in by_type:
            answers = self._followed(_ASKED, by_type, [name], []) | answers
        else:
            answers[_NO_TYPE] = _value([], [self.soa])
        for kind, value in answers.items():
            if len(value) > _VALUE_MAX:
                raise UsageError(f"zone {self.path}: the records of {name} type {kind} do not fit into a message")
        return [(key + _number(kind), value) for kind, value in answers.items()]

    def _followed(
        self,
        owner: bytes,
        by_type: dict[int, list[dns.rdataset.Rdataset]],
        seen: list[dns.name.Name],
        chain: list[bytes],
    ) -> dict[int, bytes]:
        """What an alias leads to, by type: RFC 1034, 3.6.2, as far as this zone knows."""
        alias = by_type[dns.rdatatype.CNAME][0]
        chain = chain + _records(owner, [alias])
        cname = alias[0]
        assert isinstance(cname, CNAME)
        target = cname.target
        if target in seen or len(seen) == _HOPS or not target.is_subdomain(self.apex) or self._covered(target):
            return {_NO_TYPE: _value(chain)}
        if target not in self.nodes:
            return {_NO_TYPE: _value(chain, [self.soa], code=_NXDOMAIN)}
        there = _by_type(self.nodes[target])
        if dns.rdatatype.CNAME in there:
            return self._followed(_wire(target), there, [*seen, target], chain)
        found = {kind: _value(chain + _records(_wire(target), rdatasets)) for kind, rdatasets in there.items()}
        return found | {_NO_TYPE: _value(chain, [self.soa])}

    def _covered(self, name: dns.name.Name) -> bool:
        """Whether a star speaks for a name that does not exist."""
        if name in self.nodes:
            return False
        while (name := name.parent()) not in self.nodes:
            pass
        return dns.name.from_text("*", name) in self.nodes


def _by_type(node: dns.node.Node | None) -> dict[int, list[dns.rdataset.Rdataset]]:
    """A name's records; the signatures of all types are one type."""
    found: dict[int, list[dns.rdataset.Rdataset]] = {}
    for rdataset in node.rdatasets if node else ():
        found.setdefault(int(rdataset.rdtype), []).append(rdataset)
    return found


def _records(owner: bytes, rdatasets: list[dns.rdataset.Rdataset]) -> list[bytes]:
    return [_record(owner, rdataset.rdtype, rdataset.ttl, _data(rdata)) for rdataset in rdatasets for rdata in rdataset]


def _wire(name: dns.name.Name) -> bytes:
    return name.to_wire() or b""


def _data(rdata: dns.rdata.Rdata) -> bytes:
    return rdata.to_wire() or b""


def _record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, _IN, ttl, len(data)) + data


def _value(answers: list[bytes], authority: list[bytes] | None = None, code: int = _NOERROR) -> bytes:
    authority = authority or []
    head = struct.pack("!HHBB", len(answers), len(authority), _AUTHORITATIVE, code)
    return head + b"".join(answers) + b"".join(authority)


def _number(kind: int) -> bytes:
    return struct.pack("!H", kind)
