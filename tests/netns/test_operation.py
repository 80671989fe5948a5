"""A server in operation as root: privileges given up, a restart that loses nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from conftest import Cli, Net, wait_until

pytestmark = pytest.mark.root

# Binds as a socket unit does, then starts the service twice, one after the other, on the same sockets.
TWICE = """
import fcntl, os, signal, socket, sys
port, rest = int(sys.argv[1]), sys.argv[2:]
units = []
for _ in range(2):
    unit = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    unit.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    unit.bind(("0.0.0.0", port))
    units.append(fcntl.fcntl(unit.detach(), fcntl.F_DUPFD, 100))
def begin():
    child = os.fork()
    if child == 0:
        for n, unit in enumerate(units):
            os.dup2(unit, 3 + n)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
        os.execvp(rest[0], rest)
    return child
child = begin()
signal.sigwait({signal.SIGUSR1})
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
child = begin()
signal.sigwait({signal.SIGUSR1})
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
"""
BLOCK = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"


def test_a_restart_loses_no_request(net: Net, cli: Cli) -> None:
    through = (sys.executable, "-c", BLOCK + TWICE, "1123")
    unblock = ("env", "--default-signal=USR1")
    running = cli.start("serve", "ntp", "--for", "100s", inside=net.right, through=(*through, *unblock))

    def starts() -> int:
        return running.err.read_text().count("Ctrl-C")

    wait_until(lambda: starts() == 1, message="serving")
    flags = ("--rate", "2k", "--for", "6s", "--timeout", "5s", "--warmup", "0", "--json", "-", "--quiet")
    sources = ("--sources", "10.99.1.0/28", "--flows", "14")
    for host in range(1, 15):
        net.run(net.left, "ip", "address", "add", f"10.99.1.{host}/16", "dev", "eth0")
    net.run(net.right, "ip", "route", "add", "10.99.1.0/24", "dev", "eth0")
    load = cli.start("load", "ntp", f"{net.right_v4}:1123", *flags, *sources, inside=net.left)
    wait_until(lambda: _received(net) > 2000, message="load")
    os.kill(running.process.pid, 10)
    wait_until(lambda: starts() == 2, message="serving again")
    done = load.end()
    os.kill(running.process.pid, 10)
    running.end()
    outcomes = json.loads(done.out)["outcomes"]
    assert outcomes["sent"] > 10_000
    assert (outcomes["lost"], outcomes["late"], outcomes["refused"]) == (0, 0, 0), outcomes


def _received(net: Net) -> int:
    lines = net.run(net.right, "cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    return int(values[names.index("InDatagrams")])


def test_privileges_are_given_up(net: Net, cli: Cli) -> None:
    home = cli.folder / "root"
    home.mkdir()
    flags = ("--listen", "*:123", "--user", "65534:65534", "--chroot", str(home), "--for", "100s")
    running = cli.start("serve", "ntp", *flags, inside=net.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text() or running.process.poll() is not None, message="serving")
    assert running.process.poll() is None, running.err.read_text()
    process = Path(f"/proc/{running.process.pid}")
    for task in (process / "task").iterdir():
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4, task
        assert (int(status["CapEff"], 16), status["Groups"].strip()) == (0, ""), task
        # Threads of libraries that began before do nothing.
        assert status["NoNewPrivs"] == "1" or not status["Name"].startswith("flatout"), task
    assert os.readlink(process / "root") == str(home)
    run = cli("load", "ntp", f"{net.right_v4}:123", "--count", "100", "--rate", "1k", "--json", "-", inside=net.left)
    assert run.json["outcomes"]["answered"] == run.json["outcomes"]["sent"] > 0
    running.interrupt()
    assert running.end().code == 0


def test_giving_up_what_one_does_not_have_is_an_error(cli: Cli) -> None:
    assert cli("serve", "ntp", "--listen", "127.0.0.1:0", "--user", "no-such-user").code == 2
    assert cli("serve", "ntp", "--listen", "127.0.0.1:0", "--chroot", "/no/such/folder", "--for", "1s").code == 2
