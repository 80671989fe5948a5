"""The barrier of a fleet in virtual time: when the start is told, to whom, and what happens where it is not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pytest

from flatout.errors import GeneratorError, TargetError
from flatout.fleet import parts, whole, worker
from flatout.fleet.clocks import ClockOffset
from flatout.fleet.cluster import FleetHost
from flatout.fleet.host_calls import HERE
from flatout.fleet.parts import Parts
from flatout.fleet.worker import Capabilities
from flatout.scenario.model import Scenario, Segment

NAMES = ("a", "b", "c")
ERROR = msgspec.json.encode({"error": "TargetError", "text": "no route"})


class Future:
    """A part on a host; pending until it is told to stop or ended by the test."""

    def __init__(self) -> None:
        self.status, self.data = "pending", b""

    def end(self, data: bytes = b"{}") -> None:
        self.status, self.data = "finished", data

    def done(self) -> bool:
        return self.status != "pending"

    def result(self, timeout: float) -> bytes:
        assert timeout > 0
        return self.data

    def cancel(self, force: bool) -> None:
        assert force
        self.status = "cancelled"


class World:
    """A fleet, its clock, and what its hosts do: `when` maps a time in s to what happens then."""

    def __init__(self) -> None:
        capable = {"flatout": "1", "python": "3", "kernel": "6", "cpus": 2, "descriptors": 9, "io_uring": True}
        self.hosts = [FleetHost(address=one, capabilities=Capabilities(hostname=one, **capable)) for one in NAMES]
        self.client, self.host_calls = self, HERE
        self.now_s = 0.0
        self.there, self.stood = set(NAMES), set[str]()
        self.futures = {name: Future() for name in NAMES}
        self.calls: list[tuple[float, Any, tuple[Any, ...]]] = []
        self.when: dict[float, Callable[[], object]] = {}

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s = round(self.now_s + seconds, 6)
        assert self.now_s < 200, "it hangs"
        for at in sorted(at for at in self.when if at <= self.now_s):
            self.when.pop(at)()

    def missing(self) -> dict[str, str]:
        return {host.address: "is gone" for host in self.hosts if host.address not in self.there}

    def check(self) -> None: ...

    def offsets(self, hosts: list[FleetHost]) -> dict[str, ClockOffset]:
        return {host.address: ClockOffset(offset_ns=1000 * ord(host.address), error_ns=1) for host in hosts}

    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    def submit(self, *_: Any, workers: list[str], **__: Any) -> Future:
        return self.futures[workers[0]]

    def tell(self, function: Any, name: str, *arguments: Any, to: list[str]) -> None:
        assert name
        self.calls.append((self.now_s, function, (*arguments, to)))
        for address in to if function is worker.stop else ():
            if address in self.stood and not self.futures[address].done():
                self.futures[address].end()

    def starts(self) -> list[tuple[float, Any, tuple[Any, ...]]]:
        return [one for one in self.calls if one[1] is worker.begin_at]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()

    class Watched:
        def __init__(self, *_: Any) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...
        def standing(self) -> set[str]:
            return set(made.stood)

    monkeypatch.setattr(parts, "time", made)
    monkeypatch.setattr(parts, "FleetProgress", Watched)
    monkeypatch.setattr(whole, "part", lambda name, _data: name)
    yield made
    assert all(future.done() for future in made.futures.values()), "nothing is left running"


def run(world: World, stop: threading.Event | None = None) -> tuple[Parts, Any]:
    scenario = Scenario(
        protocol="echo",
        target="10.0.0.1",
        profile=(Segment(seconds=1.0, from_per_s=9.0, to_per_s=9.0),),
        transport="tcp",
        connections=9,
    )
    one = Parts(cast(Any, world), world.hosts, [scenario] * 3)
    return one, one.run(None, lambda _: None, stop or threading.Event())


def test_the_start_is_told_once_all_stand_and_to_each_in_its_own_time(world: World) -> None:
    world.when = {
        1.0: lambda: world.stood.update("ab"),
        7.0: lambda: world.stood.add("c"),
        9.0: lambda: [future.end() for future in world.futures.values()],
    }
    one, results = run(world)
    ((at, _, (moments, to)),) = world.starts()
    assert 7.0 <= at < 7.1
    assert one.start_ns is not None
    assert 0.1e9 <= one.start_ns - at * 1e9 <= 0.3e9
    assert moments == {name: one.start_ns + 1000 * ord(name) for name in NAMES}
    assert (sorted(to), sorted(results), one.lost) == (list(NAMES), list(NAMES), {})


def test_a_host_that_never_stands_is_named_alone_and_the_others_end(world: World) -> None:
    world.stood.update("ab")
    with pytest.raises(GeneratorError, match=r"has not begun: c \(c\) had not opened .* in time$"):
        run(world)
    assert not world.starts()
    # 2 × the connect timeout of 5 s, and 15 s.
    assert 20 < world.now_s < 40


def test_a_host_that_is_gone_before_the_start_is_named_at_once(world: World) -> None:
    world.stood.update("ab")
    world.when = {3.0: lambda: world.there.discard("b"), 3.5: world.futures["c"].end}
    with pytest.raises(GeneratorError, match=r"has not begun: b \(b\) is gone$"):
        run(world)
    assert not world.starts()
    assert world.now_s < 4


def test_an_error_of_one_host_ends_all_and_is_the_error_of_the_whole(world: World) -> None:
    world.stood.update("ab")
    world.when = {1.0: lambda: world.futures["c"].end(ERROR)}
    with pytest.raises(TargetError, match=r"^c \(c\): no route$"):
        run(world)
    assert not world.starts()


def test_a_stop_while_hosts_open_their_connections_begins_nothing(world: World) -> None:
    world.stood.update("ab")
    stop = threading.Event()
    world.when = {2.0: stop.set, 2.5: world.futures["c"].end}
    one, results = run(world, stop)
    assert (one.start_ns, world.starts(), sorted(results)) == (None, [], list(NAMES))


def test_a_host_that_could_open_nothing_holds_up_no_other(world: World) -> None:
    world.stood.update("ab")
    world.when = {
        1.0: world.futures["c"].end,
        3.0: lambda: [world.futures[name].end() for name in "ab"],
    }
    one, results = run(world)
    assert len(world.starts()) == 1
    assert one.start_ns is not None
    assert sorted(results) == list(NAMES)
