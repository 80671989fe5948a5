"""A network device drops packets, or has no carrier."""

from __future__ import annotations

from flatout.analysis.troubles import enough, in_trouble, missing
from flatout.result.finding import Finding
from flatout.result.ledger import Ledger
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """A device that is down while requests are lost, else its counters of drops and errors."""
    ledger = run.ledger
    if ledger is None:
        return None
    about, full = ledger.surroundings, ledger.count("device_ring")
    dropped = ledger.count("device") + full
    down = about.device_up is False and in_trouble(run)
    if not down and not enough(dropped, run):
        return None
    if down:
        sentence = f"The device {about.device} towards the target is down, or has no carrier."
        remedy = f"ip link set {about.device} up, and the same at its other end; look at the cable"
        evidence = [f"flags of {about.device}: not running", *_counted(ledger)]
        return _finding(sentence, remedy, evidence, max(dropped, missing(run) + ledger.count("own_queue")))
    if 2 * full > dropped:
        sentence = (
            f"The receive ring of a network device was full: it dropped {full:,} packets before the kernel had them."
        )
        remedy = "longer rings (ethtool -G), more queues (ethtool -L), interrupts on more CPUs, or a lower rate"
    else:
        sentence = f"Network devices dropped {dropped:,} packets."
        remedy = "look at what they count (ip -s -s link, ethtool -S); a lower rate"
    return _finding(sentence, remedy, _counted(ledger), ledger.lost_at("device") + ledger.lost_at("device_ring"))


def _counted(ledger: Ledger) -> list[str]:
    lines = [line for line in ledger.lines if line.place in ("device", "device_ring") and line.count]
    return [f"{line.where}: {line.counted or line.count:,} ({line.source})" for line in lines]


def _finding(sentence: str, remedy: str, evidence: list[str], explains: int) -> Finding:
    return Finding(
        name="device", sentence=sentence, evidence=evidence, remedy=remedy, confidence="high", explains=explains
    )
