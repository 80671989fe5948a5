"""Golden packets through the real engine: our server answers others' requests, our reader judges others' answers."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import flatout
from conftest import ROOT

PACKETS = ROOT / "tests" / "packets" / "ntp"
REQUESTS = sorted(path.stem for path in PACKETS.glob("*_request.hex"))
SINCE_1900 = 2_208_988_800


def packet(name: str) -> bytes:
    return bytes.fromhex((PACKETS / f"{name}.hex").read_text(encoding="ascii"))


def ask(address: str, request: bytes, seconds: float = 5.0) -> bytes | None:
    host, port = address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(seconds)
        asker.sendto(request, (host, int(port)))
        try:
            return asker.recv(2048)
        except TimeoutError:
            return None


def seconds(stamp: bytes) -> float:
    whole, fraction = struct.unpack("!II", stamp)
    return float(whole - SINCE_1900 + fraction / 2**32)


@pytest.mark.parametrize("name", REQUESTS)
def test_our_server_answers_what_others_ask(name: str) -> None:
    request = packet(name)
    signed = any(kind in name for kind in ("md5", "sha1", "aes"))
    # By default what carries a MAC is dropped: the client would not accept an answer without.
    with flatout.serve("ntp", "127.0.0.1:0", **({"authenticated": "answer"} if signed else {})) as server:
        answer = ask(server.address, request)
    assert answer is not None
    assert len(answer) == 48
    mode = 2 if request[0] & 7 == 1 else 4
    assert (answer[0] >> 6, answer[0] >> 3 & 7, answer[0] & 7) == (0, request[0] >> 3 & 7, mode)
    assert (answer[1], answer[2], answer[12:16]) == (10, request[2], b"LOCL")
    assert answer[24:32] == request[40:48], "origin is the request's transmit stamp, bit for bit"
    reference, receive, transmit = (seconds(answer[at : at + 8]) for at in (16, 32, 40))
    assert reference <= receive <= transmit
    assert abs(transmit - time.time()) < 30
    assert receive - reference < 3600


@pytest.mark.parametrize("name", ["chrony_v4_answer", "chrony_unsynchronised_answer"])
def test_our_server_never_answers_an_answer(name: str) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        assert ask(server.address, packet(name), 0.3) is None
        assert server.stats()["dropped"]["not_a_request"] == 1


@pytest.mark.parametrize("length", [0, 1, 47, 49, 67, 500, 1472, 2000])
def test_our_server_takes_any_length(length: int) -> None:
    """And answers, if at all, with no more than it was asked with."""
    request = (packet("chrony_v4_request") + bytes(2000))[:length]
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        answer = ask(server.address, request, 0.2)
        assert answer is None or 48 == len(answer) <= length
        assert ask(server.address, packet("chrony_v4_request")) is not None, "it is still there"


@contextmanager
def replaying(answer: bytes, patched: bool = True) -> Iterator[str]:
    """A server that always gives the same answer, with the origin of the request unless told otherwise."""
    stop = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                try:
                    request, peer = server.recvfrom(2048)
                except TimeoutError:
                    continue
                server.sendto(answer[:24] + request[40:48] + answer[32:] if patched else answer, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def judged(answer: bytes, version: int = 4, patched: bool = True) -> Any:
    with replaying(answer, patched) as address:
        options: Any = {"version": version}
        return flatout.load("ntp", address, rate=300, duration=0.3, warmup=0, timeout=0.5, flows=4, options=options)


@pytest.mark.parametrize(
    ("name", "version", "tally"),
    [
        ("chrony_v4_answer", 4, "basic"),
        ("chrony_v3_answer", 3, "basic"),
        ("ntpdig_answer", 4, "basic"),
        ("chrony_unsynchronised_answer", 4, "unsynchronised"),
        ("chrony_v3_answer", 4, "wrong_version"),
        ("chrony_v4_request", 4, "wrong_mode"),
    ],
)
def test_our_reader_judges_what_others_answer(name: str, version: int, tally: str) -> None:
    run = judged(packet(name), version)
    outcome = run.outcomes.answered if tally == "basic" else run.outcomes.invalid
    assert run.outcomes.sent > 0
    assert outcome == run.tallies[tally] == sum(run.tallies.values()) == run.outcomes.sent


def test_answers_to_somebody_else_are_invalid_and_never_answers() -> None:
    run = judged(packet("chrony_v4_answer"), patched=False)
    assert run.outcomes.answered == 0
    assert run.outcomes.invalid == run.outcomes.sent > 0
    assert run.verdict == "target-lost"
