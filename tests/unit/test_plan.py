"""From a scenario to what the engine is given: what is checked before a packet leaves."""

from __future__ import annotations

import math
import os
import resource
from typing import Any

import msgspec
import pytest

import flatout
from flatout.errors import TargetError, UsageError
from flatout.plan import capacity
from flatout.plan import resolve as plan
from flatout.plan.load_plan import Log
from flatout.protocols import PROTOCOLS
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario, Segment
from flatout.testing import Faults, FaultyServer

NAME = next(iter(PROTOCOLS))
NAN = math.nan
PORT = PROTOCOLS[NAME].port


def scenario(**changes: Any) -> Scenario:
    base = Scenario(protocol=NAME, target="127.0.0.1:5", profile=(Segment(1.0, 1000.0, 2000.0),))
    return msgspec.structs.replace(base, **changes)


def test_the_engine_gets_every_setting() -> None:
    made = plan.make(
        scenario(
            warmup_s=0.25,
            timeout_s=0.5,
            flows=8,
            sources=("127.0.0.0/24",),
            arrivals="poisson",
            seed=-1,
            threads=2,
            stamps="user",
            gso=True,
            log="/tmp/log.csv",
        )
    )
    engine = made.engine
    assert engine.protocol == NAME
    assert [(str(address), *rest) for address, *rest in engine.targets] == [("127.0.0.1", 5, 0)]
    assert [source.host for source in engine.sources] == [f"127.0.0.{n}" for n in range(1, 9)]
    assert engine.profile == (Segment(1.0, 1000.0, 2000.0),)
    assert (engine.warmup_ns, engine.timeout_ns) == (250_000_000, 500_000_000)
    assert (engine.flows, engine.workers, engine.seed) == (8, 2, 2**64 - 1)
    assert (engine.arrivals, engine.stamps, engine.segmented) == ("poisson", False, True)
    assert engine.log == Log(path="/tmp/log.csv", tcpscaler=False)


def test_threads_that_share_a_cpu_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert plan.make(scenario(threads=2)).notes == []
    assert "3 threads that spin share 2 CPUs" in plan.make(scenario(threads=3)).notes[0]
    assert "2 threads that spin share 1 CPU:" in plan.make(scenario(threads=2, cpus=(1,))).notes[0]


def test_cpus_are_told_by_numbers_or_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert capacity.cpus_of([2, 0]) == capacity.cpus_of("2,0") == (2, 0)
    assert capacity.cpus_of(()) == ()
    for wanted, said in [
        ((99,), r"CPUs \[99\] are not among those this process may use: \[0, 1, 2\]"),
        ("0,7", r"CPUs \[7\] are not among"),
        ([-1], r"CPUs \[-1\] are not among"),
        ("", "write them like"),
        ([0.0], "give numbers"),
        (1, "give numbers"),
        (["0"], "give numbers"),
        ("a", "write them like"),
    ]:
        with pytest.raises(UsageError, match=said):
            capacity.cpus_of(wanted)  # type: ignore[arg-type]


def test_nothing_is_left_where_more_is_used_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_read", lambda _: "1000 0 900\n")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    few = capacity.Room(ports=28_232, files=100, memory=None, io_uring=False)
    with pytest.raises(UsageError, match="this host has only 0 files left"):
        capacity.check_files(5, scenario(), few, what="flows")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": 0}, "timeout=0: give a time above 0 s and at most 60 s"),
        ({"timeout": "61s"}, "timeout=61: give"),
        ({"connect_rate": "20M"}, "connect_rate=2e\\+07: give a rate above 0 and at most 10,000,000/s"),
        ({"connect_timeout": 0}, "connect_timeout=0: give a time above 0 s"),
    ],
)
def test_numbers_out_of_range_are_told_with_their_argument(given: dict[str, Any], said: str) -> None:
    asked = {"rate": 100, "duration": 1, "profile": None, "transport": "tcp", "connections": 1, **given}
    with pytest.raises(UsageError, match=said):
        plan.make(scenario_of("dns", "127.0.0.1:1", **asked))
    with pytest.raises(UsageError, match="duration='0s': give a time above 0 s"):
        scenario_of("dns", "127.0.0.1:1", rate=1, duration="0s", profile=None)


def test_all_that_keeps_to_cpus_refuses_those_that_it_may_not_use() -> None:
    missing = max(os.sched_getaffinity(0)) + 1
    for keeps in (
        lambda: flatout.Receiver("127.0.0.1:0", cpus=[missing]),
        *(lambda name=name: flatout.serve(name, "127.0.0.1:0", cpus=(missing,)) for name in PROTOCOLS),
        lambda: FaultyServer(NAME, Faults(), cpus=(missing,)),
        lambda: flatout.load(NAME, "127.0.0.1:5", rate=1, cpus=(missing,)),
    ):
        with pytest.raises(UsageError, match="are not among those this process may use"):
            keeps()


def test_the_port_is_the_protocols_own_where_none_is_named() -> None:
    assert plan.make(scenario(target="127.0.0.1")).endpoint.port == PORT


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": ()},
        {"profile": (Segment(0.0, 1.0, 1.0),)},
        {"profile": (Segment(NAN, 1.0, 1.0),)},
        {"profile": (Segment(math.inf, 1.0, 1.0),)},
        {"profile": (Segment(2.0, 1.0, 1.0), Segment(-1.0, 1.0, 1.0))},
        {"profile": (Segment(1.0, -1.0, 1.0),)},
        {"profile": (Segment(1.0, 1.0, NAN),)},
        {"profile": (Segment(1.0, 1.0, 1e99),)},
        {"warmup_s": NAN},
        {"warmup_s": math.inf},
        {"timeout_s": NAN},
        {"threads": 0},
        {"flows": 0},
        {"flows": -1},
        {"threads": 65},
        {"timeout_s": 0.0},
        {"timeout_s": -1.0},
        {"timeout_s": 61.0},
        {"warmup_s": -0.1},
        {"cpus": (100_000,)},
        {"require": ("p99",)},
        {"sources": ("127.0.0.1", "::1")},
        {"sources": ("::1",)},
        {"protocol": "smoke-signals"},
        {"options": {"no_such_knob": 1}},
        {"target": "8.8.8.8"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_bad_use(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        plan.make(scenario(**changes))


def test_an_unknown_name_is_the_targets_fault() -> None:
    with pytest.raises(TargetError):
        plan.make(scenario(target="nowhere.invalid"))


def test_more_flows_than_ports_says_what_helps() -> None:
    with pytest.raises(UsageError, match=r"source ports.*--sources"):
        plan.make(scenario(flows=capacity.local_ports() + 1))


def test_more_sources_give_more_ports_but_not_more_descriptors_where_flows_cannot_share_sockets() -> None:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    flows = max(descriptors, capacity.local_ports()) + 1
    with pytest.raises(UsageError, match=r"descriptors|socket for each flow"):
        plan.make(scenario(flows=flows, sources=("127.0.0.0/8",), gso=True))


@pytest.mark.parametrize(("limit", "held"), [(40, 0), (64, 0), (1024, 960), (resource.RLIM_INFINITY, (1 << 20) - 64)])
def test_descriptors_beside_our_own(limit: int, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert capacity.descriptors() == held


def test_no_descriptor_to_spare_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (40, 40))
    with pytest.raises(UsageError) as raised:
        plan.make(scenario(flows=4))
    assert str(raised.value) == (
        "4 flows need as many descriptors, and this process may hold 0 beside flatout's own 64: "
        "raise the hard limit (ulimit -Hn, systemd's LimitNOFILE)"
    )


def test_the_kernels_ports_are_counted() -> None:
    assert 1000 < capacity.local_ports() <= 65_536
