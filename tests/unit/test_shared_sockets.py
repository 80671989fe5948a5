"""Whether flows share sockets: only where descriptors do not suffice, and source addresses tell them apart."""

from __future__ import annotations

from typing import Any

import pytest

from flatout.errors import UsageError
from flatout.plan import capacity
from flatout.plan import resolve as plan
from flatout.scenario.build import scenario_of


def made(monkeypatch: pytest.MonkeyPatch, files: int, protocol: str = "ntp", **given: Any) -> plan.Plan:
    room = capacity.Room(ports=28_000, files=files, memory=None, io_uring=False)
    monkeypatch.setattr(capacity, "room", lambda: room)
    fields: dict[str, Any] = {"rate": 1000, "duration": 1.0, "profile": None, **given}
    return plan.make(scenario_of(protocol, "127.0.0.1:5", **fields))


def test_flows_share_sockets_where_descriptors_do_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = made(monkeypatch, 100, flows=1000, sources=("127.1.0.0/20",), threads=2)
    assert shared.engine.shared_sockets
    assert len(set(shared.sources)) == 1000
    assert any("1,000 flows from 1,000 addresses share 2 sockets" in note for note in shared.notes)
    few = made(monkeypatch, 100, flows=1000, sources=("127.1.0.0/24",))
    assert any("from 254 addresses share 4 sockets" in note for note in few.notes)
    assert not made(monkeypatch, 1000, flows=1000, sources=("127.1.0.0/20",)).engine.shared_sockets


@pytest.mark.parametrize(
    ("protocol", "given"),
    [
        ("ntp", {"sources": ()}),
        ("ntp", {"sources": ("127.0.0.1",)}),
        ("ntp", {"gso": True}),
        ("record", {"options": {"format": "id:u4 seq:u4"}}),
    ],
)
def test_where_they_cannot_that_is_said(monkeypatch: pytest.MonkeyPatch, protocol: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"descriptors|socket for each flow"):
        made(monkeypatch, 100, protocol, **{"flows": 1000, "sources": ("127.1.0.0/20",), **given})


def test_shared_sockets_do_not_send_from_public_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    room = capacity.Room(ports=28_000, files=100, memory=None, io_uring=False)
    monkeypatch.setattr(capacity, "room", lambda: room)
    fields: dict[str, Any] = {"rate": 1000, "duration": 1.0, "profile": None, "flows": 1000}
    for sources, public in ((("fd00::/64",), False), (("2600::/64",), True)):
        scenario = scenario_of("ntp", "[::1]:5", **fields, sources=sources)
        if public:
            with pytest.raises(UsageError, match="2600::1 is a public address"):
                plan.make(scenario)
        else:
            assert plan.make(scenario).engine.shared_sockets
    assert plan.make(scenario_of("ntp", "[::1]:5", **fields, sources=("2600::/64",), allow_public=True))
