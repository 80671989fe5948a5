"""What was sampled around a run, made by hand; and runs that lost something, with their ledgers closed."""

from __future__ import annotations

from typing import Any

import msgspec
import results

from flatout.host.counters import Growth
from flatout.result.ledger import Surroundings, TargetSocket
from flatout.result.machine import Contention, Placement, PlacementTarget, TargetContention, XdpLink
from flatout.result.model import Connections, LoadResult, Outcomes
from flatout.runner import ledger
from flatout.runner.counters import Sampled

ABOUT = PlacementTarget(pids=[812], command="ntpd", threads=2, sockets=1, cpus=[0, 1])
HERE = Placement(target=ABOUT, cpus=[1], why="apart from ntpd (process 812)", where="here")
ELSEWHERE = Placement(where="elsewhere")
SOCKET = TargetSocket(
    address="0.0.0.0:123", process="ntpd (process 812)", drops=0, unread_bytes=0, buffer_bytes=212_992
)
LISTENER = TargetSocket(address="0.0.0.0:53", process="named (process 9)", drops=0, queue=0, queue_limit=1)
# Frames by the driver of a veth, as recorded.
LINK = XdpLink(
    interface="eth0",
    kind="veth",
    mode="native",
    transmit="live",
    queues=2,
    next_hops=["fa:b4:35:f2:1e:f2"],
    ports=[61000, 61063],
    carrier="live frames, AF_XDP (copy)",
)
SENT = 10_000
AROUND = Surroundings(device="eth0", device_up=True, packet_bytes=832)


def growth(values: dict[str, int] | None = None, **blind: str) -> Growth:
    return Growth(values or {}, blind)


def sampled(
    own: dict[str, int] | None = None,
    target: dict[str, int] | None = None,
    *,
    placement: Placement = HERE,
    sockets: list[TargetSocket] | None = None,
    version: int = 4,
    **around: Any,
) -> Sampled:
    """`own` and `target`: what counters of the two namespaces grew by; `around` replaces fields of the surroundings."""
    if target is not None:
        about = msgspec.structs.replace(ABOUT, namespace="other")
        placement = msgspec.structs.replace(placement, target=about, where="namespace")
    received = None if target is None else target.pop("received", SENT)
    return Sampled(
        target_received=received,
        own=growth(own),
        target=None if target is None else growth(target),
        sockets=[SOCKET] if sockets is None else sockets,
        surroundings=msgspec.structs.replace(AROUND, **around),
        placement=placement,
        here=placement.where in ("here", "nobody"),
        version=version,
    )


def threads(**changes: Any) -> TargetContention:
    """Threads of the target that have little to do; `changes` replace fields."""
    quiet = TargetContention(cpu_s=1.0, run_delay_s=0.0, run_delay_share=0.0, busiest_share=0.1, busy_threads=1)
    return msgspec.structs.replace(quiet, **changes)


def contention(**changes: Any) -> Contention:
    """A quiet machine; `changes` replace fields."""
    quiet = Contention(
        run_delay_s=0.0,
        involuntary_switches=0,
        threads=1,
        steal_s=0.0,
        softirq_s={"0": 0.1, "1": 0.1},
        busy_s={"0": 1.0, "1": 9.9},
        others_s=0.1,
        elapsed_s=10.0,
        backlog_drops=0,
        throttled_s=0.0,
        target=threads(),
    )
    return msgspec.structs.replace(quiet, **changes)


def run(lost: int = 0, *, unsent: dict[str, int] | None = None, refused: int = 0, **changes: Any) -> LoadResult:
    """10,000 requests sent in 10 s, of which so many were lost."""
    left = sum((unsent or {}).values())
    outcomes = Outcomes(
        planned=SENT + left,
        sent=SENT,
        unsent=left,
        answered=SENT - lost - refused,
        late=0,
        lost=lost,
        refused=refused,
        invalid=0,
        duplicate=0,
    )
    fields: dict[str, Any] = {
        "duration_s": 10.0,
        "outcomes": outcomes,
        "unsent_because": unsent or {},
        "loss": (lost + refused) / SENT,
        "requirements": [],
        "placement": HERE,
        "contention": contention(),
    }
    asked = results.scenario(rate_per_s=1000)
    made = results.load(1000, 10, scenario=msgspec.structs.replace(asked, require=()))
    return msgspec.structs.replace(made, **fields | changes)


def over_streams(lost: int = 0, connections: dict[str, int] | None = None, **changes: Any) -> LoadResult:
    """The same over connections."""
    known = {"opened": 100, "established": 100, "peak": 100, "live": 100} | (connections or {})
    made = run(lost, connections=Connections(**known), **changes)
    return msgspec.structs.replace(made, scenario=msgspec.structs.replace(made.scenario, transport="tcp"))


def closed(result: LoadResult, seen: Sampled) -> LoadResult:
    """The run with its ledger."""
    with_place = msgspec.structs.replace(result, placement=seen.placement)
    answered = result.outcomes.answered
    # Of what was read all was answered, unless the case says otherwise.
    kernel = {"Udp.InDatagrams": 2 * answered, "Udp.OutDatagrams": result.outcomes.sent + answered}
    seen = seen._replace(own=Growth({**kernel, **seen.own.values}, seen.own.blind))
    if seen.target is not None:
        ip = dict.fromkeys(("Ip.InReceives", "Ip.InDelivers", "Ip6InReceives", "Ip6InDelivers"), SENT)
        seen = seen._replace(target=Growth({**ip, **seen.target.values}, seen.target.blind))
    return msgspec.structs.replace(with_place, ledger=ledger.close(with_place, seen))
