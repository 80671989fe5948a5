"""What a server with limits answers and what it does not, reason by reason; and how it is operated while it runs."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import flatout
from conftest import Cli, free_port, wait_until
from flatout.errors import UsageError
from flatout.server.answering import Answerer

REQUEST = bytes([0x23, 0, 6]) + bytes(37) + b"\x01\x02\x03\x04\x05\x06\x07\x08"


@contextmanager
def asking(at: tuple[str, int], source: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind((source, 0))
        asker.connect(at)
        asker.settimeout(10)
        yield asker


def answers(at: tuple[str, int], count: int, source: str = "127.0.0.1") -> list[bytes]:
    """The answers to so many requests at once; a last one from a monitor's address shows that all were considered."""
    with asking(at, source) as asker, asking(at, "127.0.0.99") as monitor:
        for _ in range(count):
            asker.send(REQUEST)
        time.sleep(0)
        monitor.send(REQUEST)
        assert monitor.recv(128)
        asker.setblocking(False)
        got = []
        while True:
            try:
                got.append(asker.recv(128))
            except BlockingIOError:
                return got


def serving(limits: flatout.Limits, threads: int = 1) -> Answerer:
    server = flatout.serve("ntp", "127.0.0.1:0", threads=threads, limits=limits)
    assert isinstance(server, Answerer)
    return server


def port(server: Answerer) -> tuple[str, int]:
    return "127.0.0.1", server.endpoint.port


MONITORS = ("127.0.0.99",)


def test_a_client_gets_its_burst_and_others_theirs() -> None:
    limits = flatout.Limits(client_rate="1/1h", client_burst=5, client_leak=0, monitors=MONITORS)
    with serving(limits) as server:
        assert len(answers(port(server), 50)) == 5
        assert len(answers(port(server), 50, "127.0.0.2")) == 5
        rows = {row["address"]: row for row in server.clients()}
        stats = wait_until(lambda: (now := server.stats())["received"] == 102 and now)
    assert stats["dropped"]["rate_limited"] == 90
    assert stats["answered"] == 12
    assert (rows["127.0.0.2"]["answered"], rows["127.0.0.2"]["limited"]) == (5, 45)
    assert "127.0.0.99" not in rows, "monitors are not followed"
    assert stats["sent_bytes"] == 12 * 76


def test_a_kiss_tells_no_time() -> None:
    limits = flatout.Limits(client_rate="1/1h", client_burst=1, client_leak=0, kod=True, monitors=MONITORS)
    with serving(limits) as server:
        plain, kiss = answers(port(server), 10)
        stats = wait_until(lambda: (now := server.stats())["received"] == 11 and now)
    assert len(kiss) == 48
    assert (kiss[0], kiss[1], kiss[2], kiss[12:16]) == (0xE4, 0, 6, b"RATE"), "leap 3, version 4, mode 4, stratum 0"
    assert kiss[24:32] == kiss[32:40] == kiss[40:48] == REQUEST[40:48]
    assert plain[1] > 0
    assert (stats["kissed"], stats["dropped"]["rate_limited"]) == (1, 8), "one for this client"


def test_lists(tmp_path: Path) -> None:
    many = tmp_path / "denied"
    many.write_text("".join(f"10.{n >> 8}.{n & 255}.0/25\n" for n in range(50_000)) + "127.0.0.2\n", encoding="ascii")
    with serving(flatout.Limits(deny=(str(many),), monitors=MONITORS)) as server:
        assert len(answers(port(server), 3)) == 3
        assert answers(port(server), 3, "127.0.0.2") == []
        wait_until(lambda: server.stats()["dropped"]["denied"] == 3, message="counted")
        server.set_limits(flatout.Limits(allow=("127.0.0.2",), monitors=MONITORS))
        assert answers(port(server), 3) == []
        assert len(answers(port(server), 3, "127.0.0.2")) == 3
        with pytest.raises(UsageError):
            server.set_limits(flatout.Limits(deny=("nonsense",)))
        assert len(answers(port(server), 3, "127.0.0.2")) == 3, "as before"


def test_a_bandwidth_is_kept_and_monitors_come_first() -> None:
    # 76 bytes each: 100 answers a second, and a bucket of 16 KiB.
    with serving(flatout.Limits(max_rate=100 * 76 * 8, monitors=MONITORS)) as server:
        for _ in range(20):
            answers(port(server), 100)
        stats = wait_until(lambda: (now := server.stats())["received"] == 2020 and now)
        spent_s = stats["t_s"]
    answered = stats["answered"] - 20
    assert answered <= (16 << 10) / 76 + 100 * spent_s + 10
    assert answered > 50
    assert stats["dropped"]["over_budget"] == stats["received"] - stats["answered"] > 0
    assert stats["limits"]["bandwidth_bytes_per_s"] == 7600


def test_a_quota_is_counted_over_restarts(tmp_path: Path) -> None:
    usage = str(tmp_path / "usage")
    used = []
    for _ in range(2):
        limits = flatout.Limits(quota="1TB/month", monitors=MONITORS)
        with flatout.serve("ntp", "127.0.0.1:0", threads=1, limits=limits, usage_file=usage) as server:
            assert isinstance(server, Answerer)
            assert len(answers(port(server), 9)) == 9
        used.append(server.stats()["limits"]["quota"]["used"])
    assert used == [760, 1520]


def test_limits_are_for_datagrams() -> None:
    with pytest.raises(UsageError, match="datagrams"):
        flatout.serve("dns", "127.0.0.1:0", limits=flatout.Limits(client_rate=1))
    with flatout.serve("dns", "127.0.0.1:0", transports=["udp"], limits=flatout.Limits(client_rate=1)):
        pass


def test_one_worker_for_a_client_where_there_are_limits() -> None:
    limits = flatout.Limits(client_rate="1/1h", client_burst=5, client_leak=0)
    with serving(limits, threads=4) as server:
        got = 0
        for _ in range(20):
            with asking(port(server)) as asker:
                asker.send(REQUEST)
                asker.settimeout(0.05 if got >= 5 else 10)
                try:
                    got += len(asker.recv(128)) > 0
                except TimeoutError:
                    continue
        assert got == 5, "from 20 ports"


def test_a_running_server_is_asked_and_reloaded(cli: Cli) -> None:
    listen, metrics = free_port(), free_port(socket.AF_INET)
    config = cli.folder / "server.toml"
    config.write_text(
        f'listen = "127.0.0.1:{listen}"\ncontrol = "control"\nprometheus = "127.0.0.1:{metrics}"\n'
        '[limits]\nclient_rate = "1/1h"\nclient_burst = 2\nclient_leak = 0\nmonitors = "127.0.0.99"\n',
        encoding="utf-8",
    )
    running = cli.start("serve", "ntp", "--config", "server.toml", "--threads", "1", "--for", "100s")
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    at = ("127.0.0.1", listen)
    assert len(answers(at, 10)) == 2
    wait_until(lambda: cli("ntp", "stats", "control").json["dropped"]["rate_limited"] == 8, message="counted")
    assert "127.0.0.1" in cli("control", "clients", "control").out
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as page:
        assert 'flatout_not_answered_total{protocol="ntp",reason="rate_limited"} 8' in page.read().decode()

    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('client_rate = "1/1h"', "").replace("[limits]", "threads = 3\n[limits]"))
    reloaded = cli("control", "reload", "control")
    assert reloaded.code == 0, reloaded.err
    assert "threads changes with the next start" not in reloaded.out, "the command line has said it"
    assert len(answers(at, 10)) == 10
    config.write_text("nonsense", encoding="utf-8")
    assert cli("control", "reload", "control").code == 2
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "not reloaded" in running.err.read_text(), message="told")
    config.write_text(text, encoding="utf-8")
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "flatout: reloaded" in running.err.read_text(), message="reloaded")
    assert len(answers(at, 10, "127.0.0.3")) == 2
    running.interrupt()
    assert running.end().code == 0
    assert not (cli.folder / "control").exists()
    assert cli("control", "stats", "control").code == 3


def test_lines_tell_reasons(cli: Cli) -> None:
    listen = free_port()
    flags = ("--deny", "127.0.0.0/8", "--for", "100s", "--json", "-")
    running = cli.start("serve", "ntp", "--listen", f"127.0.0.1:{listen}", *flags)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    with asking(("127.0.0.1", listen)) as asker:
        asker.send(REQUEST)
        wait_until(lambda: "(denied 1)" in running.err.read_text(), message="told")
    running.interrupt()
    done = running.end()
    assert json.loads(done.out.splitlines()[-1])["dropped"]["denied"] == 1
