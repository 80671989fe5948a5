"""`flatout ntp check` against servers: our own, ones with faults, and none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

import flatout
from conftest import Cli, free_port

QUICK = ("--samples", "2", "--gap", "0s", "--timeout", "300ms")


def test_our_own_server_keeps_all_rules(cli: Cli, ntp_server: flatout.Server) -> None:
    done = cli("ntp", "check", ntp_server.address, *QUICK, "--json", "check.json")
    found = json.loads((cli.folder / "check.json").read_text())
    assert found["kind"] == "ntp-check"
    assert {one["name"]: one["reason"] for one in found["findings"] if one["verdict"] != "pass"} == {}
    names = {one["name"] for one in found["findings"]}
    assert names >= {"version 1", "version 4", "mode 1", "unknown extension field", "amplification", "source address"}
    assert "no answer to mode 6" in names
    assert all(abs(sample["offset_ns"]) < 50e6 for sample in found["samples"]), "one clock"
    # Its stratum says that it is no server for a pool.
    assert (found["score"]["step"], found["score"]["in_dns"], done.code) == (-4, False, 1)
    assert "stratum 10" in done.out
    assert "No rule of" in done.out


def test_without_a_server_the_target_is_not_reached(cli: Cli) -> None:
    done = cli("ntp", "check", f"127.0.0.1:{free_port()}", *QUICK, "--json", "-")
    assert done.code == 3
    assert done.json["score"]["step"] == -5
    assert done.json["findings"] == []
    assert "no answer" in done.err


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that turns each request into what the test's function makes of it."""
    answer: Callable[[bytes], bytes | None] = request.param
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                asked, source = sock.recvfrom(2048)
                if asked == b"end":
                    return
                if (made := answer(asked)) is not None:
                    sock.sendto(made, source)

        thread = threading.Thread(target=serve)
        thread.start()
        port = sock.getsockname()[1]
        yield f"127.0.0.1:{port}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", ("127.0.0.1", port))
        thread.join()


def echo(asked: bytes) -> bytes:
    return asked


def refusing(asked: bytes) -> bytes | None:
    if len(asked) < 48:
        return None
    return bytes([0xE4, 0, 0, 0]) + bytes(8) + b"DENY" + bytes(8) + asked[40:48] + asked[40:48] * 2


@pytest.mark.parametrize(("server", "step"), [(echo, -5), (refusing, -10)], indirect=["server"])
def test_faults_are_told(cli: Cli, server: str, step: float) -> None:
    done = cli("ntp", "check", server, *QUICK, "--json", "-")
    assert (done.code, done.json["score"]["step"], done.json["passed"]) == (1, step, False)
    failed = {one["name"] for one in done.json["findings"] if one["verdict"] == "fail"}
    assert "version 4" in failed
    assert "no answer to mode 4" in failed


def test_bad_use(cli: Cli) -> None:
    for wrong in (("--samples", "0"), ("--timeout", "0s"), ("--gap", "2h")):
        assert cli("ntp", "check", "127.0.0.1", *wrong).code == 2, wrong
    assert cli("ntp", "check", "255.255.255.255").code == 2
