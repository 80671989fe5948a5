"""The running NTP server, given what a fuzzer would send it: it answers requests only, never more than it was asked,
accounts for every datagram, and goes on answering.
"""

from __future__ import annotations

import random
import socket

import pytest

import flatout

HEADER = 48
LONGEST = 2000
# So few at a time that neither end's receive buffer can overflow: then every answer is seen.
BATCH = 32
LAST = b"the last"


def request(version: int = 4, mode: int = 3, stamp: bytes = b"flatout!") -> bytes:
    return bytes([version << 3 | mode]) + bytes(39) + stamp


def is_request(datagram: bytes) -> bool:
    version, mode = datagram[0] >> 3 & 7, datagram[0] & 7
    return 1 <= version <= 4 and (mode in (1, 3) or (version, mode) == (1, 0))


def mutated(draw: random.Random) -> bytes:
    """A request with some bits turned, some of them cut off or run on."""
    version, mode = draw.choice((4, 4, 3, 1, draw.randrange(8))), draw.choice((3, 3, 1, 0, draw.randrange(8)))
    made = bytearray(request(version, mode, draw.randbytes(8)))
    for _ in range(draw.choice((0, 1, 2, 8))):
        made[draw.randrange(len(made))] ^= 1 << draw.randrange(8)
    tail = draw.choice((b"", draw.randbytes(draw.randrange(80)), field(draw)))
    return bytes(made[: draw.choice((HEADER, HEADER, HEADER, draw.randrange(HEADER)))]) + tail


def field(draw: random.Random) -> bytes:
    """An extension field (RFC 7822), right or nearly so."""
    length = draw.choice((16, 28, 32, 64))
    reported = length + draw.choice((0, 0, 0, 1, 4))
    kind = draw.choice((0x0104, 0x0204, 0xF323, draw.randrange(65536)))
    return kind.to_bytes(2, "big") + reported.to_bytes(2, "big") + draw.randbytes(length - 4)


def datagrams() -> list[bytes]:
    draw = random.Random(42)
    every_length = [draw.randbytes(length) for length in range(LONGEST + 1)]
    # Random bytes are rarely requests: the same lengths once more as the beginning of one with one long field.
    rest = (0xF323_0000).to_bytes(4, "big") + draw.randbytes(LONGEST)
    headed = [bytearray((request(stamp=draw.randbytes(8)) + rest)[:length]) for length in range(LONGEST + 1)]
    for made in headed[HEADER + 4 :]:
        made[HEADER + 2 : HEADER + 4] = (len(made) - HEADER).to_bytes(2, "big")
    return [*every_length, *map(bytes, headed), *(mutated(draw) for _ in range(6000))]


def connected(server: flatout.Server) -> socket.socket:
    where = server.endpoint
    family = socket.AF_INET6 if where.address.version == 6 else socket.AF_INET
    asker = socket.socket(family, socket.SOCK_DGRAM)
    asker.connect((str(where.address), where.port))
    asker.settimeout(20)
    return asker


def exchange(asker: socket.socket, batch: list[bytes]) -> list[bytes]:
    """What comes back for a batch. A request behind it ends it: one socket's datagrams are answered in order."""
    for datagram in [*batch, request(stamp=LAST)]:
        asker.send(datagram)
    answers = []
    while (answer := asker.recv(65536))[24:32] != LAST:
        answers.append(answer)
    return answers


def evaluate_trial(batch: list[bytes], answers: list[bytes]) -> None:
    """Each answer has a request of this batch whose stamp it echoes; no request has two answers."""
    left = [sent for sent in batch if len(sent) >= HEADER and is_request(sent)]
    for answer in answers:
        asked = next((sent for sent in left if sent[40:48] == answer[24:32]), None)
        assert asked is not None, f"{answer.hex()} answers no request"
        left.remove(asked)
        assert len(answer) == HEADER <= len(asked)
        version, mode = asked[0] >> 3 & 7, asked[0] & 7
        assert (answer[0] >> 3 & 7, answer[0] & 7) == (version, 2 if mode == 1 else 4)


@pytest.mark.parametrize(("listen", "threads"), [("127.0.0.1:0", 1), ("[::1]:0", 1), ("127.0.0.1:0", 2)])
def test_a_fuzzer_gets_nothing_it_should_not(listen: str, threads: int) -> None:
    everything = datagrams()
    batches = [everything[at : at + BATCH] for at in range(0, len(everything), BATCH)]
    answered = 0
    with flatout.serve("ntp", listen, threads=threads) as server:
        askers = [connected(server) for _ in range(4 * threads)]
        for number, batch in enumerate(batches):
            answers = exchange(askers[number % len(askers)], batch)
            evaluate_trial(batch, answers)
            answered += len(answers)
        assert all(exchange(asker, []) == [] for asker in askers), "it still answers, and nothing was left over"
        assert server.alive
    for asker in askers:
        asker.close()
    ends = len(batches) + len(askers)
    stats = server.stats()
    assert stats["received"] == len(everything) + ends
    assert stats["received"] == stats["answered"] + sum(stats["dropped"].values())
    assert stats["answered"] == answered + ends
    assert stats["kernel_drops"] == 0
    assert answered > 1000, "too few requests among them to prove anything"
    reasons = ("short", "version", "not_a_request", "malformed", "authenticated")
    assert all(stats["dropped"][reason] for reason in reasons), stats["dropped"]
