"""The ledger and the findings as views show them: rows of texts, without colour or layout. Pure."""

from __future__ import annotations

from typing import NamedTuple

from flatout.result.finding import Finding
from flatout.result.ledger import LedgerLine
from flatout.result.model import LimitResult, LoadResult
from flatout.view import format as fmt

PLACES = {
    "schedule": "unsent: late here",
    "own_queue": "unsent: own queue",
    "own_error": "unsent: own error",
    "own_slots": "unsent: no slot",
    "no_connection": "unsent: no connection",
    "target_blocked": "unsent: target full",
    "own_receive_buffer": "own receive buffer",
    "receive_buffer": "receive buffer",
    "unread": "unread",
    "udp_memory": "socket memory",
    "udp_checksum": "checksum wrong",
    "answer_send_buffer": "answer's send buffer",
    "answer_qdisc": "answer's queue",
    "answer_no_route": "no route back",
    "neighbour": "neighbour",
    "qdisc": "queue (qdisc)",
    "device": "device",
    "device_ring": "device's ring",
    "other_host": "for another host",
    "backlog": "softnet backlog",
    "conntrack": "conntrack",
    "reverse_path": "reverse path filter",
    "firewall": "packet filter",
    "dropped_by_kernel": "dropped by kernel",
    "application": "application",
    "port_closed": "port closed",
    "accept_queue": "accept queue full",
    "listen_drops": "dropped handshakes",
    "syn_queue": "SYN queue full",
    "syn_cookies": "SYN cookies",
    "retransmissions": "retransmissions",
}


class LedgerRow(NamedTuple):
    """One line: the place, how many, their share of what was sent, or planned (None: events, or blind), and where."""

    place: str
    number: int | None
    share: float | None
    where: str


def rows(run: LoadResult) -> list[LedgerRow]:
    """The lines with something in them, then the unexplained rest, then the blind lines that may explain it.

    Empty where nothing was lost or left unsent and nothing happened beside.
    """
    ledger = run.ledger
    if ledger is None:
        return []
    of = {"unsent": run.outcomes.planned, "lost": ledger.sent, "beside": 0}
    found = [_row(line, of[line.side]) for line in ledger.lines if line.count and line.side != "beside"]
    if ledger.unexplained:
        found.append(LedgerRow("unexplained", ledger.unexplained, ledger.unexplained / ledger.sent, "no counter says"))
        found += [LedgerRow(_name(line), None, None, f"unknown: {line.blind}") for line in ledger.lines if line.blind]
    return found + [_row(line, 0) for line in ledger.lines if line.count and line.side == "beside"]


def _row(line: LedgerLine, of: int) -> LedgerRow:
    share = (line.count or 0) / of if of else None
    more = f" (of {line.counted:,} counted)" if line.counted else ""
    return LedgerRow(_name(line), line.count, share, f"{fmt.plain(line.where)}{more}")


def _name(line: LedgerLine) -> str:
    return PLACES.get(line.place, line.place)


def shown_findings(result: LoadResult | LimitResult) -> list[Finding]:
    """The findings with texts that a terminal may show."""
    return [
        Finding(
            name=fmt.plain(finding.name),
            sentence=fmt.plain(finding.sentence),
            evidence=[fmt.plain(text) for text in finding.evidence],
            remedy=fmt.plain(finding.remedy),
            confidence=finding.confidence,
            explains=finding.explains,
        )
        for finding in result.findings
    ]


def knee_text(result: LimitResult) -> str:
    """The knee of a search in words, with how sure it is; empty where there was no ramp."""
    found = result.knee
    if found is None:
        return ""
    sure = f" [{found.confidence} confidence]" if found.resource else ""
    cpu = f" {found.cpu_sentence}." if found.cpu_sentence else ""
    return fmt.plain(f"{found.sentence}{sure}{cpu}")
