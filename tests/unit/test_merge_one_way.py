"""Several hosts that load one receiver: its counters are everybody's, and compared with what all have sent."""

from __future__ import annotations

from typing import Any

import msgspec
import results
from receivers import counters

from flatout import merge
from flatout.result.loss import SHARED
from flatout.result.model import CounterSamples, Latency, LoadResult, Outcomes, Rates


def node(index: int, of: int, sent: int, *readings: CounterSamples, **changes: Any) -> LoadResult:
    """One host's result: it knows nothing of the loss."""
    zero = dict.fromkeys(("unsent", "answered", "late", "lost", "refused", "invalid", "duplicate"), 0)
    base = results.load(1000, 1)
    result = msgspec.structs.replace(
        base,
        scenario=msgspec.structs.replace(base.scenario, node=(index, of), require=("loss<1%",)),
        duration_s=1.0,
        verdict="ok",
        outcomes=Outcomes(planned=sent, sent=sent, **zero),
        unsent_because={},
        loss=None,
        rate_per_s=Rates(planned=sent, sent=sent, answered=0.0),
        latency_ns=Latency(from_due=None, from_sent=None),
        intervals=[],
        readings=list(readings),
        notes=[SHARED],
        requirements=[],
        one_way=True,
    )
    return msgspec.structs.replace(result, **changes)


def reading(before: int, after: int) -> CounterSamples:
    return CounterSamples(target="10.0.0.9:31234", before=counters(before), after=counters(after))


def test_all_nodes_together_have_an_account() -> None:
    merged = merge([node(1, 2, 1000, reading(50, 1500)), node(2, 2, 1000, reading(400, 2040))])
    assert (merged.outcomes.sent, merged.outcomes.received, merged.outcomes.lost) == (2000, 1990, 10)
    assert (merged.loss, merged.rate_per_s.received) == (0.005, 1990.0)
    assert merged.receiver is not None
    assert merged.one_way
    assert (merged.receiver.received, merged.receiver.lost_elsewhere) == (1990, 10)
    assert [r.met for r in merged.requirements] == [True]
    assert not any(SHARED in note for note in merged.notes)


def test_without_one_of_them_nobody_knows() -> None:
    merged = merge([node(1, 3, 1000, reading(0, 2900)), node(3, 3, 1000, reading(0, 3000))])
    assert (merged.outcomes.received, merged.loss, merged.receiver) == (None, None, None)
    assert any(SHARED in note for note in merged.notes)
    assert merged.warnings == ["node 2 of 3 is missing"]


def test_a_node_that_was_told_nothing_spoils_it() -> None:
    merged = merge([node(1, 2, 1000, reading(0, 2000)), node(2, 2, 1000)])
    assert (merged.outcomes.received, merged.loss) == (None, None)


def test_messages_of_which_none_arrived_are_not_ok() -> None:
    merged = merge([node(1, 2, 5, reading(7, 7)), node(2, 2, 5, reading(7, 7))])
    assert (merged.verdict, merged.why) == ("target-lost", "the receiver got none of 10 messages")
    assert merged.outcomes.received == 0
