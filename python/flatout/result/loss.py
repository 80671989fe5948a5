"""Loss accounting: the outcomes of all that was sent. Pure: counters in, outcomes out.

Of requests the engine sees every outcome itself. Of one-way messages the receiver's counters tell: it counts all that
arrives, so the differences of its counters over a run are the run's. Valid messages without duplicates are received,
malformed ones invalid, the rest is lost: sent = received + lost + invalid, always.
Sequence numbers of few bits wrap within a long gap; duplicates are then unknown. Which messages are lost is unknown,
only how many. Several nodes that load one receiver have a common account only. Each reply to a stats query carries a
number of the receiver (`instance`): it shows that two addresses belong to one receiver, and that a receiver was
restarted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from flatout.result.counts import CounterSamples, ReceiverCounts
from flatout.result.model import Outcomes

Counters = dict[str, int]

SHARED = "the receiver counts all nodes' messages: merge their results to learn the loss"
_DIFFERENCES = (
    *("received", "parsed", "malformed", "duplicate", "reordered", "missing", "restarts", "untracked"),
    *("kernel_drops", "arrivals", "handed_over", "dropped", "queued", "senders"),
)
# Within this distance below the highest number a number is late; farther below, the sequence has begun again.
_REORDER_WINDOW = 64


class LossAccount(NamedTuple):
    """The outcomes of all that was sent; `lost` says why the target counts as lost: its counters, or all messages."""

    outcomes: Outcomes
    loss: float | None
    receiver: ReceiverCounts | None = None
    lost: str | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Accounting(Protocol):
    """Completes outcomes. `shared`: other nodes' messages are among those that the receiver counted."""

    def __call__(self, outcomes: Outcomes, samples: Sequence[CounterSamples], /, *, shared: bool) -> LossAccount: ...  # noqa: D102


def accounting(*, one_way: bool) -> Accounting:
    """How loss is accounted: by the receiver's counters, or by the replies."""
    return account_of_messages if one_way else account_of_requests


def account_of_requests(outcomes: Outcomes, *_: object, **__: object) -> LossAccount:
    """Of requests: as the engine counted them."""
    return LossAccount(outcomes, (outcomes.sent - outcomes.answered) / outcomes.sent if outcomes.sent else None)


def account_of_messages(outcomes: Outcomes, samples: Sequence[CounterSamples], *, shared: bool = False) -> LossAccount:
    """Of one-way messages: as their receiver counted them. `shared`: it counts other nodes' messages, too."""
    plain = msgspec.structs.replace(
        outcomes, answered=0, late=0, lost=0, refused=0, invalid=0, duplicate=0, reordered=0
    )
    refused = f"messages were refused {outcomes.refused:,} times: no receiver listened there"
    found = LossAccount(plain, None, warnings=(refused,) if outcomes.refused else ())
    if not samples:
        return found._replace(notes=("the loss is unknown: no receiver at the target reported what arrived",))
    if restart := receiver_restarted(samples):
        return found._replace(lost=restart)
    if shared:
        return found._replace(notes=(SHARED,))
    bits = min(both.after["sequence_bits"] for both in samples)
    return _completed(found, counted(samples), bits)


def receiver_restarted(samples: Sequence[CounterSamples]) -> str | None:
    """Why the two samples do not belong together: they come from different receivers."""
    others = [both.target for both in samples if both.before["instance"] != both.after["instance"]]
    return f"the receiver at {others[0]} was restarted during the run: the loss is unknown" if others else None


def _completed(found: LossAccount, counters: Counters, bits: int) -> LossAccount:
    sent = found.outcomes.sent
    duplicate = max(counters["duplicate"], 0)
    wrapped = _sequence_wrapped(counters, sent, bits)
    valid = counters["parsed"] if wrapped else max(counters["parsed"] - duplicate, 0)
    received = min(valid, sent)
    malformed = max(counters["malformed"], 0)
    invalid = min(malformed, sent - received)
    lost = sent - received - invalid
    in_kernel, notes = _lost_in_kernel(counters, lost)
    outcomes = msgspec.structs.replace(
        found.outcomes,
        received=received,
        lost=lost,
        invalid=invalid,
        duplicate=duplicate,
        reordered=max(counters["reordered"], 0),
    )
    surplus = valid + malformed - sent
    foreign = f"the receiver has other senders, too: it got {surplus:,} messages more than were sent from here"
    warnings = (*found.warnings, *((foreign,) if surplus > 0 else ()), *((wrapped,) if wrapped else ()))
    return found._replace(
        outcomes=outcomes,
        loss=(sent - received) / sent if sent else None,
        lost=_none_received(outcomes),
        receiver=ReceiverCounts(**counters, lost_in_kernel=in_kernel, lost_elsewhere=lost - in_kernel),
        warnings=warnings,
        notes=notes,
    )


def _none_received(outcomes: Outcomes) -> str | None:
    """Why a receiver that counted nothing valid is lost; None where it counted some, or nothing was sent."""
    if outcomes.received or not outcomes.sent:
        return None
    if outcomes.invalid:
        return f"the receiver got {outcomes.invalid:,} of {outcomes.sent:,} messages, all of them malformed"
    return f"the receiver got none of {outcomes.sent:,} messages"


def _sequence_wrapped(counters: Counters, sent: int, bits: int) -> str | None:
    """Why duplicates are unknown: one gap may be so long that the numbers after it equal those before it."""
    missing = sent - counters["parsed"] - max(counters["malformed"], 0)
    if not bits or missing < 2**bits - _REORDER_WINDOW or not counters["duplicate"] + counters["reordered"]:
        return None
    return (
        f"sequence numbers of {bits} bits wrap within a gap of {2**bits:,}, and {missing:,} messages did not arrive: "
        "duplicate and reordered are unreliable, and every valid message counts as received"
    )


def _lost_in_kernel(counters: Counters, lost: int) -> tuple[int, tuple[str, ...]]:
    """How many of the lost messages the receiver's sockets dropped, with a note where that is an estimate.

    Coalesced messages (UDP_GRO) are dropped together and counted once.
    """
    drops = max(counters["kernel_drops"], 0)
    if not drops or counters["arrivals"] >= counters["received"]:
        return min(lost, drops), ()
    coalesced = counters["received"] / max(counters["arrivals"], 1)
    note = (
        f"the receiver's kernel coalesces {coalesced:.1f} messages and counts drops of these as one: the number of "
        "messages lost in the kernel is an estimate"
    )
    return min(lost, round(drops * coalesced)), (note,)


def counted(samples: Sequence[CounterSamples]) -> Counters:
    """What all receivers counted between their two samples; `workers` is the last value, `size` the first one's."""
    found = [_difference(both) for both in widest(samples)]
    added = {name: sum(counters[name] for counters in found) for name in (*_DIFFERENCES, "workers")}
    return added | {"size": found[0]["size"]}


def _difference(both: CounterSamples) -> Counters:
    changed = {name: both.after[name] - both.before[name] for name in _DIFFERENCES}
    return changed | {name: both.after[name] for name in ("workers", "size")}


def widest(samples: Sequence[CounterSamples]) -> list[CounterSamples]:
    """One pair of samples for each receiver, over all its addresses and all nodes: the first before, the last after.

    Nodes ask at different times; only between the first query and the last reply have all their messages arrived.
    """
    found: dict[int, CounterSamples] = {}
    for both in samples:
        known = found.get(both.before["instance"], both)
        before = min(known.before, both.before, key=lambda counters: counters["received"])
        after = max(known.after, both.after, key=lambda counters: counters["received"])
        found[both.before["instance"]] = CounterSamples(target=known.target, before=before, after=after)
    return list(found.values())
