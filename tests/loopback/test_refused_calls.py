"""System calls that a sandbox refuses: replaced where that is possible, else named; never the far end's fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flatout
import sandbox
from conftest import Cli, Ran, Running, wait_until

pytestmark = pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))

# Where libc has no epoll_wait of the kernel's, it calls epoll_pwait.
NO_EPOLL = {"epoll_pwait2": "ENOSYS", "epoll_wait": "EPERM", "epoll_pwait": "EPERM"}
NO_RECEIVING = {"recvmmsg": "EPERM", "recvmsg": "EPERM"}
REPLACED = [
    {"epoll_pwait2": "ENOSYS"},
    {"epoll_pwait2": "EPERM"},
    {"recvmmsg": "EPERM"},
    {"recvmmsg": "ENOSYS"},
    {"sendmmsg": "EPERM"},
    {"epoll_pwait2": "EPERM", "recvmmsg": "EPERM", "sendmmsg": "EPERM"},
]
LOAD = ("--rate", 2000, "--for", "500ms", "--warmup", "0s", "--json", "-", "--quiet")


def refused(cli: Cli, calls: dict[str, str], *arguments: object) -> Ran:
    """Runs the command line to its end with these calls refused."""
    return cli.start(*arguments, refused=calls).end()


def answered(done: Ran, calls: dict[str, str]) -> dict[str, Any]:
    """The result of a load that a healthy server answered. A busy machine may cost some requests, but not most."""
    result: dict[str, Any] = done.json
    outcomes = result["outcomes"]
    assert outcomes["answered"] > 0.5 * outcomes["planned"], (result["why"], done.err)
    assert result["verdict"] != "target-lost"
    replaced = [note for note in result["notes"] if "is not available here" in note]
    for call, note in zip(calls, replaced, strict=True):
        assert note.startswith(f"{call} is not available here, or not permitted: ")
    return result


def not_blamed(done: Ran, why: str) -> dict[str, Any]:
    """The result of a load that this host could not drive."""
    result: dict[str, Any] = done.json
    assert (done.code, result["verdict"]) == (4, "generator-limited"), (result["why"], done.err)
    assert result["why"] == f"a system call failed on this host: {why}"
    assert result["failed_call"] == why
    return result


# --- Loads ---


@pytest.mark.parametrize("calls", REPLACED, ids=lambda calls: " ".join(f"{c}={why}" for c, why in calls.items()))
def test_a_load_of_datagrams_replaces_what_is_refused(cli: Cli, ntp_server: flatout.Server, calls: Any) -> None:
    order = {"epoll_pwait2": 0, "sendmmsg": 1, "recvmmsg": 2}
    calls = dict(sorted(calls.items(), key=lambda item: order[item[0]]))
    answered(refused(cli, calls, "load", "ntp", ntp_server.address, *LOAD, "--flows", 4), calls)


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        (NO_RECEIVING, "recvmsg: Operation not permitted"),
        ({"recvmmsg": "ENOSYS", "recvmsg": "EACCES"}, "recvmsg: Permission denied"),
        (NO_EPOLL, "epoll_wait: Operation not permitted"),
        ({"epoll_pwait2": "ENOSYS", "ppoll": "EPERM"}, "ppoll: Operation not permitted"),
    ],
    ids=str,
)
def test_a_load_of_datagrams_names_the_call_that_nothing_replaces(
    cli: Cli, ntp_server: flatout.Server, calls: dict[str, str], why: str
) -> None:
    # With the kernel's stamps a generator that shares its CPUs sleeps, and then asks without waiting.
    done = refused(cli, calls, "load", "ntp", ntp_server.address, *LOAD, "--stamps", "user")
    result = not_blamed(done, why)
    assert result["outcomes"]["sent"] < 100, "it ends at once"


def test_all_workers_end_where_one_cannot_go_on(cli: Cli, ntp_server: flatout.Server) -> None:
    asked = ("--rate", 2000, "--for", "30s", "--threads", 2, "--flows", 2, "--json", "-", "--quiet")
    done = refused(cli, NO_RECEIVING, "load", "ntp", ntp_server.address, *asked)
    assert not_blamed(done, "recvmsg: Operation not permitted")["duration_s"] < 20


def test_what_cannot_be_sent_is_unsent_and_the_call_is_named(cli: Cli, ntp_server: flatout.Server) -> None:
    calls = {"sendmsg": "EPERM", "sendmmsg": "EPERM"}
    done = refused(cli, calls, "load", "ntp", ntp_server.address, *LOAD)
    assert (done.code, done.json["verdict"], done.json["outcomes"]["sent"]) == (4, "generator-limited", 0)
    assert done.json["warnings"] == ["sendmsg: Operation not permitted"]


def test_a_load_over_epoll_replaces_what_is_refused(cli: Cli, dns_server: flatout.Server) -> None:
    calls = {"epoll_pwait2": "ENOSYS"}
    over = ("--transport", "tcp", "--connections", 2, "--io", "epoll")
    result = answered(refused(cli, calls, "load", "dns", dns_server.address, *LOAD, *over), calls)
    assert result["carrier"] == "epoll"


@pytest.mark.parametrize(
    ("calls", "call"), [(NO_EPOLL, "epoll_wait"), ({"recvfrom": "EPERM"}, "recvfrom"), ({"sendto": "EPERM"}, "sendto")]
)
def test_a_load_over_epoll_names_the_call_that_nothing_replaces(
    cli: Cli, dns_server: flatout.Server, calls: dict[str, str], call: str
) -> None:
    over = ("--transport", "tcp", "--connections", 2, "--io", "epoll")
    done = refused(cli, calls, "load", "dns", dns_server.address, *LOAD, *over)
    not_blamed(done, f"{call}: Operation not permitted")


def test_connections_that_may_not_be_opened_are_no_lost_target(cli: Cli, dns_server: flatout.Server) -> None:
    over = ("--transport", "tcp", "--connections", 2, "--io", "epoll")
    done = refused(cli, {"connect": "EPERM"}, "load", "dns", dns_server.address, *LOAD, *over)
    assert (done.code, done.json["verdict"]) == (4, "generator-limited"), done.json["why"]
    assert done.json["why"].startswith("this host could open none of 2 connections: ")
    assert done.json["warnings"] == ["a connection could not be opened: Operation not permitted (os error 1)"]


@pytest.mark.parametrize(
    ("calls", "over", "why"),
    [
        (NO_RECEIVING, (), "recvmsg: Operation not permitted"),
        (NO_EPOLL, ("--transport", "tcp", "--io", "epoll"), "epoll_wait: Operation not permitted"),
    ],
    ids=["datagrams", "connections"],
)
def test_a_search_blames_no_server_for_a_refused_call(
    cli: Cli, dns_server: flatout.Server, calls: dict[str, str], over: tuple[str, ...], why: str
) -> None:
    asked = ("--budget", "30s", "--json", "-", "--quiet", *over)
    done = refused(cli, calls, "limit", "dns", dns_server.address, *asked)
    assert (done.code, done.json["limit"]["value"]) == (4, None), done.err
    [trial] = done.json["trials"]
    assert (trial["verdict"], trial["why"]) == ("invalid", f"a system call failed on this host: {why}")
    assert done.json["limit"]["stopped_by"] == "generator"
    assert trial["why"] in done.json["sentence"]


def test_a_receiver_that_cannot_be_asked_is_not_taken_for_a_silent_one(cli: Cli) -> None:
    with flatout.serve("record", "127.0.0.1:0") as server:
        done = refused(cli, {"ppoll": "EPERM"}, "load", "record", server.address, "--rate", 100, "--for", "1s")
        assert server.stats()["received"] == 0
    assert done.code == 4
    assert done.err.endswith(f"the receiver at {server.address} cannot be asked: ppoll: Operation not permitted\n")


# --- io_uring ---

NO_URING = [{"io_uring_setup": "EPERM"}, {"io_uring_setup": "ENOSYS"}, {"io_uring_enter": "EPERM"}]


@pytest.mark.parametrize("calls", NO_URING, ids=str)
@pytest.mark.parametrize("command", ["load", "serve"])
def test_io_uring_that_is_refused_is_named(
    cli: Cli, dns_server: flatout.Server, command: str, calls: dict[str, str]
) -> None:
    if command == "load":
        asked: tuple[object, ...] = (dns_server.address, *LOAD, "--transport", "tcp", "--io", "io_uring")
    else:
        asked = ("--listen", "127.0.0.1:0", "--for", "5s", "--io", "io_uring")
    done = refused(cli, calls, command, "dns", *asked)
    why = "Function not implemented" if "ENOSYS" in calls.values() else "Operation not permitted"
    assert (done.code, done.out) == (4, "")
    assert f"{next(iter(calls))}: {why}; io_uring is not available or not permitted here (" in done.err
    assert done.err.endswith("): use --io auto\n")


def test_without_io_uring_connections_go_over_epoll(cli: Cli, dns_server: flatout.Server) -> None:
    over = ("--transport", "tcp", "--connections", 2)
    done = refused(cli, {"io_uring_setup": "EPERM"}, "load", "dns", dns_server.address, *LOAD, *over)
    assert answered(done, {})["carrier"] == "epoll"


# --- Servers ---


def listening(running: Running) -> str:
    """The address of a server that has just been started."""
    line = wait_until(lambda: next((s for s in running.err.read_text().splitlines() if " on 127.0.0.1:" in s), None))
    return str(line).split(" on ")[1].split()[0].rstrip(",")


def totals(done: Ran) -> dict[str, Any]:
    """The last object of a command that serves."""
    last: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    assert last["total"]
    return last


def test_a_server_of_datagrams_replaces_what_is_refused(cli: Cli) -> None:
    calls = {"recvmmsg": "EPERM", "sendmmsg": "EPERM"}
    server = cli.start("serve", "ntp", "--listen", "127.0.0.1:0", "--json", "-", refused=calls)
    result = flatout.load("ntp", listening(server), rate=2000, duration="500ms", warmup="0s")
    assert result.outcomes.answered > 0.5 * result.outcomes.planned
    server.interrupt()
    done = server.end()
    last = totals(done)
    assert (done.code, last["answered"], last["errors"]) == (0, result.outcomes.answered + result.outcomes.late, [])
    assert [note.split()[0] for note in last["notes"]] == ["recvmmsg", "sendmmsg"]
    assert "flatout: note: recvmmsg is not available here, or not permitted: " in done.err


def test_a_server_over_epoll_replaces_what_is_refused(cli: Cli) -> None:
    asked = ("--listen", "127.0.0.1:0", "--transport", "tcp", "--io", "epoll", "--json", "-")
    server = cli.start("serve", "dns", *asked, refused={"epoll_pwait2": "ENOSYS"})
    result = flatout.load("dns", listening(server), transport="tcp", connections=2, rate=500, duration="500ms")
    assert result.outcomes.answered > 0.5 * result.outcomes.planned
    server.interrupt()
    done = server.end()
    assert (done.code, totals(done)["errors"]) == (0, [])
    assert [note.split()[0] for note in totals(done)["notes"]] == ["epoll_pwait2"]


@pytest.mark.parametrize(
    ("calls", "asked", "call"),
    [
        (NO_RECEIVING, ("ntp",), "recvmsg"),
        (NO_RECEIVING, ("record",), "recvmsg"),
        ({"accept4": "EPERM"}, ("dns", "--transport", "tcp", "--io", "epoll"), "accept4"),
        ({"recvfrom": "EPERM"}, ("dns", "--transport", "tcp", "--io", "epoll"), "recvfrom"),
    ],
    ids=["datagrams", "records", "accepting", "connections"],
)
def test_a_server_that_cannot_receive_does_not_begin(
    cli: Cli, calls: dict[str, str], asked: tuple[str, ...], call: str
) -> None:
    done = refused(cli, calls, "serve", *asked, "--listen", "127.0.0.1:0", "--for", "30s")
    assert (done.code, done.err) == (4, f"flatout: cannot listen on 127.0.0.1:0: {call}: Operation not permitted\n")


@pytest.mark.parametrize("seconds", ["30s", "50ms"], ids=["gives up", "stopped before"])
def test_a_serving_thread_that_cannot_go_on_ends_the_command(cli: Cli, seconds: str) -> None:
    asked = ("--listen", "127.0.0.1:0", "--transport", "tcp", "--io", "epoll", "--threads", 1, "--json", "-")
    done = refused(cli, NO_EPOLL, "serve", "dns", *asked, "--for", seconds)
    assert done.code == 4
    assert done.err.endswith("flatout: a serving thread cannot go on: epoll_wait: Operation not permitted\n")
    last = totals(done)
    assert (last["received"], last["errors"]) == (0, ["epoll_wait: Operation not permitted"])
    assert last["t_s"] < 20
    assert sum(worker["cpu_ns"] for worker in last["workers"]) < 0.5e9, "it does not spin"


def test_a_receiver_replaces_what_is_refused(cli: Cli) -> None:
    server = cli.start("serve", "record", "--listen", "127.0.0.1:0", "--json", "-", refused={"recvmmsg": "EPERM"})
    result = flatout.load("record", listening(server), rate=1000, duration="500ms")
    assert result.outcomes.received is not None
    assert result.outcomes.received > 0.5 * result.outcomes.planned
    server.interrupt()
    done = server.end()
    assert done.code == 0
    assert (totals(done)["received"], totals(done)["malformed"]["long"]) == (result.outcomes.received, 0)
    assert [note.split()[0] for note in totals(done)["notes"]] == ["recvmmsg"]


def test_a_receiver_in_python_says_why_it_cannot_begin(tmp_path: Path) -> None:
    script = tmp_path / "receive.py"
    script.write_text("import flatout\nflatout.Receiver('127.0.0.1:0', 'id:u4 seq:u4')\n", encoding="ascii")
    command = [*sandbox.refusing(NO_RECEIVING), sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "GeneratorError: cannot listen on 127.0.0.1:0: recvmsg: Operation not permitted" in done.stderr
