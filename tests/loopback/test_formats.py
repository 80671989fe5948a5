"""Layouts given as text, on the wire: other protocols as templates and replies; what a plain socket sees."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatout
from flatout.protocols import layout_of

QUICK: Any = {"rate": 2000, "duration": 0.5, "warmup": 0, "flows": 4}
ASKED = "flags:u1=0x23 pad:39x stamp:>u8@sequence"
ANSWERED = "flags:u1=0x24 pad:23x origin:>u8@sequence pad:16x"


@pytest.fixture
def clock() -> Iterator[str]:
    with flatout.serve("ntp", "127.0.0.1:0", threads=1) as server:
        yield server.address


def load(target: str, **options: Any) -> flatout.LoadResult:
    return flatout.load("record", target, **QUICK, options=options)


def test_another_protocol_as_a_template_and_its_reply(clock: str) -> None:
    run = load(clock, format=ASKED, reply=ANSWERED)
    assert run.outcomes.sent > 0
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent, "all were right"
    assert run.tallies["replied"] == run.outcomes.sent
    assert run.latency_ns.from_due is not None


def test_an_answer_that_differs_where_it_must_not(clock: str) -> None:
    run = load(clock, format=ASKED, reply=ANSWERED.replace("0x24", "0x25"))
    assert (run.outcomes.answered, run.outcomes.invalid) == (0, run.outcomes.sent)
    assert run.tallies["wrong_constant"] == run.outcomes.sent


def test_an_answer_of_another_length(clock: str) -> None:
    shorter = ANSWERED.replace("pad:16x", "pad:8x")
    run = load(clock, format=ASKED, reply=shorter)
    assert run.tallies["wrong_size"] == run.outcomes.invalid == run.outcomes.sent
    run = load(clock, format=ASKED, reply=f"{shorter} ...")
    assert run.tallies["replied"] == run.outcomes.sent, "more may follow"


def test_a_number_of_two_bytes_and_an_answer_of_any_length() -> None:
    with flatout.serve("dns", "127.0.0.1:0", threads=1, transports=("udp",)) as server:
        asked = "id:>u2@sequence head:V10=0x01000001000000000000 name:V5=0x0378797a00 kind:>u2=1 class:>u2=1"
        run = load(server.address, format=asked, reply="id:>u2@sequence flags:>u2=0x8500 ...")
        assert run.tallies["replied"] == run.outcomes.sent > 0, run.tallies


def test_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    run = load(f"127.0.0.1:{port}", format=ASKED, reply=ANSWERED)
    assert run.outcomes.refused > 0, "an ICMP error quotes a request, which is recognised"
    assert run.outcomes.refused + run.outcomes.lost == run.outcomes.sent


class Sink:
    """A socket that keeps what comes."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.1)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.got: list[tuple[bytes, float]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        while True:
            try:
                self.got.append((self.socket.recv(2048), time.time()))
            except TimeoutError:
                if self.over.is_set():
                    return

    def __enter__(self) -> Sink:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What was sent before is in the socket's buffer: heard out until it is silent."""
        self.over.set()
        self.thread.join()
        self.socket.close()

    def rows(self, text: str, endian: str = "little") -> np.ndarray[Any, Any]:
        """The messages, without questions how many came."""
        layout = layout_of(text, endian)  # type: ignore[arg-type]
        kept = [data for data, _ in self.got if not data.startswith(b"flatout?")]
        assert {len(data) for data in kept} == {layout.size}
        return np.frombuffer(b"".join(kept), layout.dtype)


@pytest.mark.parametrize("endian", ["little", "big"])
def test_what_arrives_is_what_numpy_reads(endian: str) -> None:
    text = (
        "id:u2 seq:u4 sent:f8 kind:u1=7 n:i2=counter x:f4=random(-2,3) luck:i1=random(-3,3) pad:2x rest:3u2 at:u4@none"
    )
    with Sink() as sink:
        begun = time.time()
        run = flatout.load("record", sink.address, **QUICK, senders=3, options={"format": text, "endian": endian})
    rows = sink.rows(text, endian)
    assert len(rows) == run.outcomes.sent > 500
    assert len(np.unique(rows["id"])) == 3
    for number in np.unique(rows["id"]):
        own = rows[rows["id"] == number]
        assert sorted(own["seq"]) == list(range(len(own))), "each sender counts for itself"
        assert (own["n"] == own["seq"]).all()
    assert (rows["kind"] == 7).all()
    assert ((rows["x"] >= -2) & (rows["x"] <= 3)).all()
    assert len(np.unique(rows["x"])) > 100
    assert set(rows["luck"]) == set(range(-3, 4))
    assert not rows["rest"].any()
    assert ((rows["sent"] > begun - 1) & (rows["sent"] < time.time() + 1)).all()


def test_the_message_of_the_article() -> None:
    with Sink() as sink:
        load(sink.address, format="movement")
    assert Counter(data for data, _ in sink.got if len(data) == 4).keys() == {b"\7\0\0\0"}


def test_rows_of_a_file_are_sent_in_turn(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n1,10\n2,20\n3,30\n", encoding="utf-8")
    text = "x:u1 y:>i2 seq:u4"
    with Sink() as sink:
        run = load(sink.address, format=text, values=str(tmp_path / "rows.csv"))
    rows = sink.rows(text)
    assert len(rows) == run.outcomes.sent
    assert (rows["y"] == 10 * rows["x"].astype(int)).all()
    shares = Counter(rows["x"].tolist())
    assert set(shares) == {1, 2, 3}
    assert max(shares.values()) - min(shares.values()) <= 1
