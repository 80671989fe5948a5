"""Bad servers over TCP: each is reported in the right words, the account closes, and nothing hangs.

All of it over io_uring and over epoll.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import stream_servers as servers
from stream_servers import BadServer, load

import flatout
from conftest import until_good

pytestmark = pytest.mark.parametrize("io", ["io_uring", "epoll"])


def test_an_honest_one_is_no_fault(io: str) -> None:
    with BadServer(servers.honest) as server:
        run = load(server, io=io)
    assert run.carrier == io
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent == server.queries > 0
    assert run.connections is not None
    assert (run.connections.opened, run.connections.live, server.accepted) == (10, 10, 10)


def test_single_bytes_make_whole_answers(io: str) -> None:
    with BadServer(servers.single_bytes) as server:
        run = load(server, io=io, rate=100)
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent == server.answers > 0
    assert (run.outcomes.invalid, run.connections.broken) == (0, 0)


def test_answers_out_of_order_are_matched(io: str) -> None:
    with BadServer(servers.out_of_order) as server:
        run = load(server, io=io, connections=2)
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent == server.answers > 0
    assert 0 < run.outcomes.reordered <= run.outcomes.sent * 3 / 4
    assert run.outcomes.duplicate == 0


def test_the_longest_answers_come_whole(io: str) -> None:
    with BadServer(servers.longest) as server:
        run = load(server, io=io, rate=100)
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent == server.answers > 0
    assert run.tallies["noerror"] == run.outcomes.sent


def test_answers_that_come_twice_are_counted_beside(io: str) -> None:
    with BadServer(servers.twice) as server:
        run = load(server, io=io)
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent == server.answers
    # The second of the last ones may come after the end.
    assert run.outcomes.sent - 10 <= run.outcomes.duplicate <= run.outcomes.sent


@pytest.mark.parametrize("behaviour", ["garbage", "another_id"])
def test_answers_that_are_none(io: str, behaviour: str) -> None:
    with BadServer(getattr(servers, behaviour)) as server:
        run = load(server, io=io)
    assert run.outcomes.sent == server.queries
    assert (run.outcomes.answered, run.outcomes.late) == (0, 0)
    assert run.outcomes.invalid > 0.9 * run.outcomes.sent, run.outcomes
    assert run.verdict == "target-lost"
    assert "never answered rightly" in run.why
    assert (run.connections.broken, run.connections.live) == (0, 10)


@pytest.mark.parametrize("behaviour", ["web", "long_prefix", "silent"])
def test_what_never_becomes_an_answer_is_lost(io: str, behaviour: str) -> None:
    """Another protocol's words read as the prefix of a message that does not end."""
    with BadServer(getattr(servers, behaviour)) as server:
        run = load(server, io=io)
    assert run.outcomes.sent == server.queries == run.outcomes.lost
    assert (run.verdict, run.connections.live) == ("target-lost", 10)
    assert "never answered: nothing came back" in run.why


@pytest.mark.parametrize("behaviour", ["empty_prefix", "short_prefix"])
@pytest.mark.parametrize("reconnect", [False, True])
def test_prefixes_that_announce_no_message_end_the_connection(io: str, behaviour: str, reconnect: bool) -> None:
    with BadServer(getattr(servers, behaviour)) as server:
        run = load(server, io=io, duration=1, reconnect=reconnect)
    assert run.outcomes.sent == run.outcomes.invalid + run.outcomes.lost + run.outcomes.refused
    assert run.outcomes.invalid >= 10
    assert run.connections.broken >= 10
    assert (run.connections.reopened > 0) == reconnect
    assert (run.connections.closed, run.connections.reset) == (0, 0)
    assert any("what came is no message" in text for text in run.warnings), run.warnings
    if not reconnect:
        assert (run.connections.broken, run.connections.live) == (10, 0)
        assert run.unsent_because["no_connection"] > 0


@pytest.mark.parametrize("usual", [{}, {"reconnect": False}], ids=["usual", "not opened again"])
def test_connections_that_end_after_seven_answers(io: str, usual: dict[str, Any]) -> None:
    with BadServer(servers.closing_after(7)) as server:
        run = load(server, io=io, duration=1, **usual)
    # What had left when the end came was read, and not answered.
    assert run.outcomes.answered + run.outcomes.late == server.answers
    assert run.outcomes.lost == run.outcomes.sent - server.answers
    assert run.connections.reset == run.connections.broken == 0
    if not usual:
        assert 0 < run.connections.reopened <= run.connections.closed + run.connections.failed
        assert server.answers > 70, "more than ten connections without others could"
        assert run.verdict != "target-lost", run.why
    else:
        assert (run.connections.closed, run.connections.live, server.answers) == (10, 0, 70)
        assert run.unsent_because["no_connection"] > 0
        assert run.verdict == "target-lost"


def test_a_search_does_not_fail_for_connections_that_end_in_order(io: str) -> None:
    how: Any = {"transport": "tcp", "connections": 10, "connect_rate": 2000, "io": io, "timeout": 1}

    def attempt() -> Any:
        with BadServer(servers.closing_after(20)) as server, servers.within(60):
            return flatout.limit("dns", server.address, loss="20%", least=100, most=200, budget=20, **how)

    found = until_good(attempt, lambda found: found.limit.value is not None)
    ended = [trial for trial in found.trials if trial.connections and trial.connections.closed > 0]
    assert ended, "each connection ends after a fifth of a second at the latest"
    assert not any("ended" in trial.why for trial in found.trials), [trial.why for trial in found.trials]
    assert found.limit.value is not None, found.sentence


def test_resets_at_accept(io: str) -> None:
    with BadServer(servers.resetting) as server:
        run = load(server, io=io, reconnect=False)
    assert server.accepted == run.connections.opened == 10
    assert (run.verdict, run.connections.live) == ("target-lost", 0)
    assert run.connections.reset + run.connections.failed == 10
    assert run.outcomes.sent == run.outcomes.refused


def test_resets_within_an_answer(io: str) -> None:
    with BadServer(servers.resetting_within) as server:
        run = load(server, io=io, duration=1, reconnect=False)
    assert (run.connections.reset, run.connections.closed, run.connections.live) == (10, 0, 0)
    assert run.outcomes.answered + run.outcomes.late == 10
    assert run.outcomes.refused == run.outcomes.sent - 10 >= 10, run.outcomes
    assert (run.outcomes.invalid, run.connections.broken) == (0, 0), "half an answer is none"
    assert server.queries >= 20


def test_resets_are_followed_by_new_connections_where_asked(io: str) -> None:
    with BadServer(servers.resetting_within) as server:
        run = load(server, io=io, reconnect=True)
    assert run.connections.reopened > 0
    assert run.connections.reset <= server.accepted <= run.connections.opened
    assert run.outcomes.answered + run.outcomes.late > 10


def test_a_server_that_does_not_read(io: str) -> None:
    """Once all buffers are full, what is due cannot leave; what has left is lost."""
    big: Any = {"options": {"size": 60_000}, "connections": 2, "rate": 400, "duration": 1}

    def attempt() -> Any:
        with BadServer(servers.not_reading, receive_buffer=1 << 16) as server:
            return load(server, "echo", io=io, **big)

    run = until_good(attempt, lambda run: run.unsent_because["late"] < run.outcomes.planned / 2)
    assert run.unsent_because["blocked"] > 0, run.unsent_because
    assert run.outcomes.sent == run.outcomes.lost > 0
    assert (run.connections.live, run.connections.reset, run.connections.closed) == (2, 0, 0)
    assert run.verdict == "target-lost"


def test_nobody_listens(io: str) -> None:
    with BadServer(servers.honest) as server:
        pass
    run = load(server, io=io)
    assert (run.connections.opened, run.connections.refused, run.connections.failed) == (10, 10, 10)
    assert (run.outcomes.sent, run.verdict) == (0, "target-lost")
    assert "10 refused" in run.why


def test_connections_that_never_stand_time_out(io: str) -> None:
    """TLS to a server that says nothing: the handshake's time-out ends it."""
    with BadServer(servers.silent) as server:
        run = load(server, io=io, transport="tls", connect_timeout=0.3)
    assert (run.connections.timed_out, run.connections.failed, run.connections.established) == (10, 10, 0)
    assert run.verdict == "target-lost"
    assert "10 timed out" in run.why


def test_garbage_for_a_handshake(io: str) -> None:
    with BadServer(lambda talk, _: talk.send(b"\x00\x05nonsense" * 100)) as server:
        run = load(server, io=io, transport="tls", connect_timeout=2)
    assert (run.connections.failed, run.connections.established, run.connections.live) == (10, 0, 0)
    assert run.verdict == "target-lost"
    assert any("TLS" in text for text in run.warnings), run.warnings


@pytest.mark.parametrize("behaviour", ["honest", "single_bytes", "out_of_order", "resetting_within", "not_reading"])
def test_an_interrupted_run_ends_at_once_and_closes_too(io: str, behaviour: str) -> None:
    """Whatever the server does: stopping does not wait for it."""

    async def cut_short(server: BadServer) -> None:
        seen = asyncio.Event()
        here = asyncio.get_running_loop()
        how: Any = {"transport": "tcp", "connections": 10, "connect_rate": 2000, "reconnect": True, "io": io}
        run = asyncio.ensure_future(
            flatout.load_async(
                "dns",
                server.address,
                rate=200,
                duration=60,
                progress=lambda _: here.call_soon_threadsafe(seen.set),
                **how,
            )
        )
        await seen.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    with BadServer(getattr(servers, behaviour)) as server, servers.within(30):
        asyncio.run(cut_short(server))
