"""What became of messages that nobody answers, by their receiver's counters. Pure: two readings in, outcomes out.

Method: a receiver counts all that comes since it began; differences of its counters are a run's. Right messages without
duplicates are received, malformed ones invalid, the rest is lost: so sent = received + lost + invalid, always.
Numbers of few bits come round within a long gap; then nobody can tell a duplicate from what came after the gap.
Which messages are lost is not known here, only how many. Several nodes that load one receiver are told apart by nobody:
only all together have an account. Each answer bears the number of the receiver that gave it (`instance`): by that, two
addresses are known to be one receiver, and a receiver that was started anew is known to be another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from flatout.result.model import Arrival, Outcomes, Reading

Words = dict[str, int]

SHARED = "the receiver counts all nodes' messages: merge their results to learn the loss"
_DIFFERENCES = (
    *("received", "parsed", "malformed", "duplicate", "reordered", "missing", "restarts", "untracked"),
    *("kernel_drops", "arrivals", "handed_over", "dropped", "queued", "senders"),
)
# So far behind the highest a number is told from a new beginning.
_BEHIND = 64


class LossAccount(NamedTuple):
    """What became of all that was sent; `lost` says why that is not known any more."""

    outcomes: Outcomes
    loss: float | None
    arrival: Arrival | None = None
    lost: str | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def answered(outcomes: Outcomes) -> LossAccount:
    """Of requests that are answered: what the engine has seen."""
    return LossAccount(outcomes, (outcomes.sent - outcomes.answered) / outcomes.sent if outcomes.sent else None)


def account(outcomes: Outcomes, readings: Sequence[Reading], *, shared: bool = False) -> LossAccount:
    """Of messages that nobody answers: what their receiver has counted.

    `shared`: other nodes' messages are among those counted.
    """
    plain = msgspec.structs.replace(
        outcomes, answered=0, late=0, lost=0, refused=0, invalid=0, duplicate=0, reordered=0
    )
    warnings = (f"{outcomes.refused:,} times messages were refused: nobody listened there",) if outcomes.refused else ()
    found = LossAccount(plain, None, warnings=warnings)
    if not readings:
        return found._replace(notes=("loss is not known: nobody at the target told what arrived",))
    if reset_sequences := restarted(readings):
        return found._replace(lost=reset_sequences)
    if shared:
        return found._replace(notes=(SHARED,))
    bits = min(reading.after["sequence_bits"] for reading in readings)
    return _settled(found, together(readings), bits)


def restarted(readings: Sequence[Reading]) -> str | None:
    """Why two readings do not belong together: another receiver told the second one."""
    others = [reading.target for reading in readings if reading.before["instance"] != reading.after["instance"]]
    if not others:
        return None
    return f"the receiver at {others[0]} was started anew during the run: none knows what became of the messages"


def _settled(found: LossAccount, reported: Words, bits: int) -> LossAccount:
    sent = found.outcomes.sent
    duplicate = max(reported["duplicate"], 0)
    uncounted = _came_round(reported, sent, bits)
    came = reported["parsed"] if uncounted else max(reported["parsed"] - duplicate, 0)
    received = min(came, sent)
    malformed = max(reported["malformed"], 0)
    invalid = min(malformed, sent - received)
    lost = sent - received - invalid
    in_kernel, notes = _in_kernel(reported, lost)
    arrival = Arrival(**reported, lost_in_kernel=in_kernel, lost_elsewhere=lost - in_kernel)
    outcomes = msgspec.structs.replace(
        found.outcomes,
        received=received,
        lost=lost,
        invalid=invalid,
        duplicate=duplicate,
        reordered=max(reported["reordered"], 0),
    )
    strange = came + malformed - sent
    more = f"others send to this receiver too: it got {strange:,} messages more than were sent from here"
    warnings = (*found.warnings, *((more,) if strange > 0 else ()), *((uncounted,) if uncounted else ()))
    loss = (sent - received) / sent if sent else None
    return found._replace(outcomes=outcomes, loss=loss, arrival=arrival, warnings=warnings, notes=notes)


def _came_round(reported: Words, sent: int, bits: int) -> str | None:
    """Why duplicates are no fact: one gap may have been so long that the numbers after it are those from before."""
    missing = sent - reported["parsed"] - max(reported["malformed"], 0)
    if not bits or missing < 2**bits - _BEHIND or not reported["duplicate"] + reported["reordered"]:
        return None
    return (
        f"sequence numbers of {bits} bits come round within a gap of {2**bits:,}, and {missing:,} messages did not "
        "come: duplicate and reordered may be neither, and all that came counts as received"
    )


def _in_kernel(reported: Words, lost: int) -> tuple[int, tuple[str, ...]]:
    """How many of the lost messages the receiver's sockets dropped, and what to say of that.

    What the kernel would have handed over as one message it drops as one, and counts once (UDP_GRO).
    """
    drops = max(reported["kernel_drops"], 0)
    if not drops or reported["arrivals"] >= reported["received"]:
        return min(lost, drops), ()
    together = reported["received"] / max(reported["arrivals"], 1)
    note = (
        f"the receiver's kernel handed over {together:.1f} messages at a time and counts what it drops so: how many of "
        "the lost it dropped is an estimate"
    )
    return min(lost, round(drops * together)), (note,)


def together(readings: Sequence[Reading]) -> Words:
    """What all receivers counted between their two readings; `workers` are as they are, `size` is the first one's."""
    found = [_difference(reading) for reading in widest(readings)]
    added = {name: sum(words[name] for words in found) for name in (*_DIFFERENCES, "workers")}
    return added | {"size": found[0]["size"]}


def _difference(reading: Reading) -> Words:
    reported = {name: reading.after[name] - reading.before[name] for name in _DIFFERENCES}
    return reported | {name: reading.after[name] for name in ("workers", "size")}


def widest(readings: Sequence[Reading]) -> list[Reading]:
    """One reading of each receiver, wherever and by whomever it was asked: the first before, the last after.

    Nodes ask at different times; only between the first question and the last answer have all their messages come.
    """
    found: dict[int, Reading] = {}
    for reading in readings:
        known = found.get(reading.before["instance"], reading)
        before = min(known.before, reading.before, key=lambda words: words["received"])
        after = max(known.after, reading.after, key=lambda words: words["received"])
        found[reading.before["instance"]] = Reading(target=known.target, before=before, after=after)
    return list(found.values())
