"""Real daemons as sources of the server's time, and real clients of it: chronyd, ntpd, ntplib, systemd-timesyncd.

No daemon here controls the clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flatout
from conftest import PEERS, Net, free_port, wait_until
from flatout.protocols.ntp.upstream.chrony import Chrony
from flatout.protocols.ntp.upstream.daemon import Daemon

pytestmark = pytest.mark.peer

# Without the right to set the clock.
NO_CLOCK = ("setpriv", "--bounding-set=-sys_time")
COMMON = "allow 127.0.0.1\nbindaddress 127.0.0.1\nbindcmdaddress 127.0.0.1\n"


@contextlib.contextmanager
def chronyd(program: str, folder: Path, *lines: str) -> Iterator[None]:
    folder.mkdir(mode=0o750)
    config = folder / "chrony.conf"
    config.write_text(COMMON + "\n".join([*lines, f"pidfile {folder}/pid", ""]), encoding="ascii")
    command = [program, "-x", "-d", "-f", str(config), "-U", *(["-u", "root"] if os.geteuid() == 0 else [])]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture
def chain(peer: Callable[[str], str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """A chronyd that is synchronised with another one: stratum 10, with delay and dispersion. Its ways to be asked."""
    program, first, second, command = peer("chronyd"), free_port(), free_port(), free_port()
    socket = tmp_path / "second" / "s.sock"
    source = f"server 127.0.0.1 port {first} iburst minpoll 0 maxpoll 0"
    with (
        chronyd(program, tmp_path / "first", "local stratum 9", f"port {first}", "cmdport 0"),
        chronyd(
            program,
            tmp_path / "second",
            source,
            f"port {second}",
            f"cmdport {command}",
            *([f"bindcmdaddress {socket}"] if os.geteuid() == 0 else []),
        ),
    ):
        daemon = Daemon("127.0.0.1", second)

        def synchronised() -> bool:
            with contextlib.suppress(OSError, ValueError):
                return daemon.ask().synchronised
            return False

        wait_until(synchronised, 60, "synchronised")
        yield {"over NTP": f"127.0.0.1:{second}", "cmdmon": f"chrony:127.0.0.1:{command}", "socket": f"chrony:{socket}"}


def test_a_servers_state_is_chronyds(chain: dict[str, str], peer: Callable[[str], str]) -> None:
    del peer
    direct = Daemon(*_host_port(chain["over NTP"]))
    for way, upstream in chain.items():
        if way == "socket" and os.geteuid() != 0:
            continue
        with flatout.serve("ntp", "127.0.0.1:0", threads=1, upstream=upstream) as server:
            wait_until(lambda server=server: server.stats()["state"]["told"], message=way)
            served, own = Daemon(*_host_port(server.address)).ask(), direct.ask()
        assert (served.leap, served.stratum, served.reference_id) == (0, 10, own.reference_id), way
        assert served.stratum == own.stratum, "not one below it"
        assert abs(served.root_delay_ns - own.root_delay_ns) < 1_000_000, way
        assert abs(served.root_dispersion_ns - own.root_dispersion_ns) < 20_000_000, way
        # The reference time is one of the last seconds', on both.
        assert abs((served.reference >> 32) - (own.reference >> 32)) <= 4, way


def test_a_chronyd_that_dies_leaves_no_time_in_the_end(peer: Callable[[str], str], tmp_path: Path) -> None:
    port = free_port()
    with flatout.serve("ntp", "127.0.0.1:0", threads=1, upstream=f"127.0.0.1:{port}", max_age="2s") as server:
        ours = Daemon(*_host_port(server.address))
        assert not ours.ask().synchronised, "before the first state"
        with chronyd(peer("chronyd"), tmp_path / "one", "local stratum 7", f"port {port}", "cmdport 0"):
            wait_until(lambda: ours.ask().synchronised, message="chronyd's state")
            assert ours.ask().stratum == 7
        wait_until(lambda: not ours.ask().synchronised, message="stale")
        assert server.stats()["state"]["why"]


def test_chronys_question_needs_no_serving_chronyd(peer: Callable[[str], str], tmp_path: Path) -> None:
    command = free_port()
    with chronyd(peer("chronyd"), tmp_path / "one", "local stratum 6", "port 0", f"cmdport {command}"):
        asking = Chrony(("127.0.0.1", command))

        def reported() -> Any:
            with contextlib.suppress(OSError, ValueError):
                return asking.ask()
            return None

        assert wait_until(reported).stratum == 6


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


# --- Clients ---


def test_ntplib_takes_our_time() -> None:
    ntplib = pytest.importorskip("ntplib")
    with flatout.serve("ntp", "127.0.0.1:0", threads=1, static="stratum=2,refid=GPS") as server:
        for version in (1, 2, 3, 4):
            host, port = _host_port(server.address)
            answer = ntplib.NTPClient().request(host, port=port, version=version)
            assert (answer.version, answer.mode, answer.stratum, answer.leap) == (version, 4, 2, 0)
            assert abs(answer.offset) < 0.1, "the same clock"


@pytest.mark.root
def test_ntpd_takes_our_time(net: Net, peer: Callable[[str], str], tmp_path: Path) -> None:
    program = peer("ntpd")
    if "ntpsec" not in subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("the program 'ntpd' is not NTPsec's")
    config, lines = tmp_path / "ntp.conf", tmp_path / "lines"
    config.write_text(f"server {net.right_v4} iburst\ndisable ntp\nrestrict default\n", encoding="ascii")
    asking = [*_inside(net.left), *NO_CLOCK, program, "-n", "-c", str(config), "-p", str(tmp_path / "pid")]
    with _running(_serving(net, lines)):
        wait_until(lambda: _serves(lines), message="serving")
        with _running(asking):
            wait_until(lambda: _answered(lines) >= 4, 60, "four answers to an iburst")


@pytest.mark.root
def test_timesyncd_takes_our_time(net: Net, peer: Callable[[str], str], tmp_path: Path) -> None:
    program, lines = peer("systemd-timesyncd"), tmp_path / "lines"
    # What nobody may read: its configuration, and the program with its library, which may be unpacked anywhere.
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "timesyncd.conf").write_text(f"[Time]\nNTP={net.right_v4}\n", encoding="ascii")
    for file in (Path(program), *PEERS.glob("usr/lib/*/systemd/*.so")):
        shutil.copy(file, folder)
    # As root it wants the right to set the clock; as nobody it asks, and does not.
    nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups"
    started = f"{nobody} {' '.join(NO_CLOCK[1:])} env LD_LIBRARY_PATH=/etc/systemd /etc/systemd/{Path(program).name}"
    mounted = f"mount --bind {folder} /etc/systemd && exec {started}"
    asking = [*_inside(net.left), "unshare", "-m", "sh", "-c", mounted]
    with _running(_serving(net, lines)):
        wait_until(lambda: _serves(lines), message="serving")
        with _running(asking):
            wait_until(lambda: _answered(lines) >= 1, 60, "answered")


def _serving(net: Net, lines: Path) -> list[str]:
    command = [sys.executable, "-m", "flatout", "serve", "ntp", "--listen", f"{net.right_v4}:123", "--quiet"]
    return [*_inside(net.right), *command, "--static", "stratum=2,refid=GPS", "--json", str(lines)]


def _inside(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace]


def _serves(lines: Path) -> bool:
    return lines.exists() and bool(_seconds(lines))


def _answered(lines: Path) -> int:
    return sum(second["answered"] for second in _seconds(lines))


def _seconds(lines: Path) -> list[dict[str, Any]]:
    """The whole lines so far, one a second."""
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").split("\n")[:-1]]


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def test_chronyd_gets_interleaved_answers(peer: Callable[[str], str], tmp_path: Path) -> None:
    with flatout.serve("ntp", "127.0.0.1:0", threads=1, static="stratum=2,refid=GPS") as server:
        _, port = _host_port(server.address)
        source = f"server 127.0.0.1 port {port} xleave iburst minpoll 0 maxpoll 0"
        with chronyd(peer("chronyd"), tmp_path / "client", source, "port 0", f"cmdport {free_port()}"):
            wait_until(lambda: server.stats()["stamps"]["interleaved"] >= 3, 60, "interleaved")
        assert server.stats()["stamps"]["tx_late"] == 0
