"""The server's time over live sockets: what it says before, with, and after the state of a daemon."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import flatout
from conftest import Cli, wait_until
from flatout.errors import UsageError

REQUEST = bytes([0x23]) + bytes(39) + b"\1\2\3\4\5\6\7\x08"
REFERENCE_ID = bytes([192, 0, 2, 7])


class FakeDaemon:
    """An NTP daemon on loopback whose answers a test sets; silent while `says` is None."""

    def __init__(self) -> None:
        self.says: dict[str, Any] | None = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        # It answers with the time of a real server: the clock that both have.
        with flatout.serve("ntp", "127.0.0.1:0", threads=1, static="stratum=1,refid=X") as clock:
            while True:
                packet, client = self.socket.recvfrom(1024)
                if not packet:
                    return
                if self.says is not None:
                    self.socket.sendto(self.answer(exchange(clock, packet)), client)

    def answer(self, answer: bytes) -> bytes:
        says = {"leap": 0, "stratum": 2, "dispersion": 0x80, **(self.says or {})}
        first = bytes([says["leap"] << 6 | 0x24, says["stratum"], 0, 0xEC])
        delay = (0x40).to_bytes(4, "big") + says["dispersion"].to_bytes(4, "big")
        return first + delay + REFERENCE_ID + answer[16:]

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", self.socket.getsockname())
        self.thread.join(5)
        self.socket.close()


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    running = FakeDaemon()
    yield running
    running.close()


def exchange(server: flatout.Server, request: bytes = REQUEST, patience_s: float = 5) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(patience_s)
        asking.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
        asking.send(request)
        return asking.recv(1024)


def reported(server: flatout.Server) -> int:
    return int(server.stats()["state"]["told"])


def test_the_daemons_state_is_in_the_answers(daemon: FakeDaemon) -> None:
    with flatout.serve("ntp", "127.0.0.1:0", upstream=daemon.address) as server:
        wait_until(lambda: reported(server) > 0)
        answer = exchange(server)
        assert answer[0] == 0x24
        assert (answer[1], answer[3]) == (2, 0xEC)
        assert answer[4:8] == (0x40).to_bytes(4, "big")
        # It has grown by a unit or two of 15 µs, and by what the exchange could not tell.
        assert 0x80 < int.from_bytes(answer[8:12], "big") < 0x90
        assert answer[12:16] == REFERENCE_ID
        assert answer[24:32] == REQUEST[40:]
        daemon.says = {"leap": 1, "stratum": 3}
        wait_until(lambda: exchange(server)[:2] == bytes([0x64, 3]))
        assert server.stats()["state"]["stratum"] == 3


@pytest.mark.parametrize("policy", ["answer", "silent"])
def test_before_the_first_state_there_is_no_time(daemon: FakeDaemon, policy: str) -> None:
    daemon.says = None
    with flatout.serve("ntp", "127.0.0.1:0", upstream=daemon.address, unsynchronised=policy) as server:
        if policy == "answer":
            assert exchange(server)[:2] == bytes([0xE4, 0]), "leap 3 with stratum 0"
        else:
            with pytest.raises(TimeoutError):
                exchange(server, patience_s=0.3)
            wait_until(lambda: server.stats()["dropped"]["unsynchronised"] == 1)
        daemon.says = {}
        wait_until(lambda: reported(server) > 0)
        assert exchange(server)[:2] == bytes([0x24, 2])


@pytest.mark.parametrize("says", [None, {"leap": 3}, {"stratum": 0}, {"stratum": 16}])
def test_a_state_grows_stale_when_the_daemon_fails(daemon: FakeDaemon, says: dict[str, Any] | None) -> None:
    with flatout.serve("ntp", "127.0.0.1:0", upstream=daemon.address, max_age="2s") as server:
        wait_until(lambda: reported(server) > 0)
        daemon.says = says
        seen = []

        def stale() -> bool:
            seen.append(exchange(server))
            return seen[-1][1] == 0

        wait_until(stale)
        assert all((answer[0] >> 6 == 3) == (answer[1] == 0) for answer in seen), "leap 3 and stratum 0 together"
        grown = [int.from_bytes(answer[8:12], "big") for answer in seen[:-1] if answer[1]]
        assert grown[-1] > grown[0], "the dispersion grew meanwhile"
        wait_until(lambda: server.stats()["state"]["why"])
        daemon.says = {}
        wait_until(lambda: exchange(server)[1] == 2, message="recovered")


def test_a_stated_time_and_its_options() -> None:
    with flatout.serve("ntp", "127.0.0.1:0", static="stratum=1,refid=GPS,dispersion=1ms", symmetric=False) as server:
        answer = exchange(server)
        assert answer[:2] == bytes([0x24, 1])
        assert (answer[12:16], answer[8:12]) == (b"GPS\0", (66).to_bytes(4, "big"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
            asking.send(bytes([0x21]) + REQUEST[1:])
            asking.send(REQUEST + bytes(20))
        wait_until(lambda: server.stats()["dropped"]["authenticated"] == 1)
        assert server.stats()["dropped"]["not_a_request"] == 1


def test_without_a_source_it_is_a_labelled_test_clock() -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        answer = exchange(server)
        assert (answer[0], answer[1], answer[12:16]) == (0x24, 10, b"LOCL")
        assert "state" not in server.stats()


def test_low_bits_differ_from_answer_to_answer() -> None:
    with flatout.serve("ntp", "127.0.0.1:0", static="stratum=1,refid=GPS", threads=1) as server:
        low = {exchange(server)[39] for _ in range(64)} | {exchange(server)[47] for _ in range(64)}
        assert len(low) > 32


def test_the_command_line_takes_an_upstream(daemon: FakeDaemon, cli: Cli) -> None:
    done = cli(
        "serve", "ntp", "--listen", "127.0.0.1:0", "--upstream", daemon.address, "--for", "1s", "--json", "-", "--quiet"
    )
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["state"]["told"] >= 1


def test_wrong_options_name_themselves() -> None:
    for options in (
        {"upstream": "nowhere"},
        {"static": "stratum=1"},
        {"unsynchronised": "loud"},
        {"upstream": "kernel"},
    ):
        with pytest.raises(UsageError, match=next(iter(options))):
            flatout.serve("ntp", "127.0.0.1:0", **options)  # type: ignore[arg-type]


def test_an_interleaved_client_is_told_when_the_answer_before_left() -> None:
    with flatout.serve("ntp", "127.0.0.1:0", threads=1, static="stratum=2,refid=GPS") as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))

            def ask(n: int, origin: bytes) -> bytes:
                own = bytes([n]) * 8
                asking.send(bytes([0x23]) + bytes(23) + origin + own + b"\1\2\3\4\5\6\7\x08")
                return asking.recv(1024)

            first = ask(1, bytes(8))
            second = ask(2, first[32:40])
            assert second[24:32] == REQUEST[40:], "nothing is known of the first: a basic answer"
            answers = [second]

            def interleaved() -> bool:
                # The stamp of the answer before may not have been read yet.
                answers.append(ask(len(answers) + 2, answers[-1][32:40]))
                return answers[-1][24:32] == bytes([len(answers) + 1]) * 8

            wait_until(interleaved)
            before, last = answers[-2], answers[-1]
            left, stamped = (int.from_bytes(packet[40:48], "big") for packet in (last, before))
            # It left after its own stamp, and before the next request came.
            assert stamped - 2 <= left <= int.from_bytes(last[32:40], "big")
        wait_until(lambda: server.stats()["stamps"]["interleaved"] >= 1)


def test_the_error_of_transmit_stamps_is_measured() -> None:
    with flatout.serve("ntp", "127.0.0.1:0", threads=1) as server:
        wait_until(lambda: bool(exchange(server)) and server.stats()["stamps"]["tx_early_ns"])
        stamps = server.stats()["stamps"]
        assert stamps["tx_sampled"] > 0
        assert stamps["tx_late"] == 0
        assert 0 <= stamps["tx_early_ns"]["p50"] <= stamps["tx_early_ns"]["max"] < 1e9


def test_no_transmit_stamp_is_late_under_load() -> None:
    with flatout.serve("ntp", "127.0.0.1:0", threads=1, static="stratum=2,refid=GPS") as server:

        def sampled() -> bool:
            """One answer in each ms at most, and fewer on a busy machine."""
            flatout.load("ntp", server.address, rate=30_000, duration=0.5, warmup=0, flows=32)
            return bool(server.stats()["stamps"]["tx_sampled"] > 100)

        wait_until(sampled, 60)
        assert server.stats()["stamps"]["tx_late"] == 0
