"""The control socket and the metrics of a server, without a server."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import TargetError, UsageError
from flatout.server import endpoints
from flatout.server.exposition import prometheus
from flatout.server.systemd import Notifier

STATS: dict[str, Any] = {
    "t_s": 1.5,
    "received": 10,
    "answered": 7,
    "dropped": {"short": 2, "denied": 1},
    "workers": [{"received": 10, "cpu_ns": 2_500_000}],
    "kernel_drops": 3,
    "sent_bytes": 532,
    "replaced": {"count": 1, "last": ""},
    "limits": {
        "bandwidth_bytes_per_s": 1000,
        "quota": {"bytes": 9, "used": 4, "ends_unix_s": 0},
        "peaks_per_s": {"received": 5.0},
    },
}


def test_the_text_for_prometheus() -> None:
    lines = prometheus(STATS, "x").splitlines()
    for line in (
        "# TYPE flatout_received_total counter",
        'flatout_received_total{protocol="x"} 10',
        'flatout_not_answered_total{protocol="x",reason="denied"} 1',
        'flatout_worker_cpu_seconds_total{protocol="x",worker="0"} 0.0025',
        'flatout_workers_replaced_total{protocol="x"} 1',
        'flatout_quota_used{protocol="x"} 4',
        'flatout_peak_per_second{protocol="x",counter="received"} 5',
    ):
        assert line in lines, line
    metrics = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(metrics) == len(set(metrics)), "each metric once"


def test_metrics_over_http() -> None:
    with endpoints.metrics("127.0.0.1:0", "x", lambda: STATS) as served:
        at = "http://{}:{}".format(*served.address)
        with urllib.request.urlopen(f"{at}/metrics", timeout=10) as page:
            assert page.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert page.read().decode() == prometheus(STATS, "x")
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{at}/other", timeout=10)


def fails() -> None:
    raise UsageError("not now")


def test_commands_over_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with endpoints.control(path, {"stats": lambda: STATS, "reload": fails}):
        assert os.stat(path).st_mode & 0o777 == 0o660
        assert endpoints.ask(path, "stats") == STATS
        with pytest.raises(UsageError, match="not now"):
            endpoints.ask(path, "reload")
        with pytest.raises(UsageError, match="stats, reload"):
            endpoints.ask(path, "destroy")
        with pytest.raises(UsageError, match="in use"):
            endpoints.control(path, {})
    assert not Path(path).exists()
    with pytest.raises(TargetError):
        endpoints.ask(path, "stats")


@pytest.mark.parametrize("sent", [b"\n", b"[]\n", b"{}\n", b"\xff\n", b'{"command": []}\n', b"x" * 5000 + b"\n"])
def test_nonsense_gets_an_error(tmp_path: Path, sent: bytes) -> None:
    path = str(tmp_path / "control")
    with endpoints.control(path, {"stats": lambda: 1}), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(path)
        client.sendall(sent)
        with client.makefile("rb") as lines:
            assert "error" in json.loads(lines.readline())


def test_a_stale_socket_is_replaced_and_a_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))
    with endpoints.control(str(path), {"stats": lambda: 1}):
        assert endpoints.ask(str(path), "stats") == 1
    path.write_text("precious", encoding="ascii")
    with pytest.raises(UsageError, match="no socket"):
        endpoints.control(str(path), {})
    assert path.read_text(encoding="ascii") == "precious"


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        notifier = Notifier()
        notifier.ready("serving")
        assert manager.recv(256) == b"READY=1\nSTATUS=serving"
        notifier.alive()
        notifier.alive()
        notifier.stopping()
        assert [manager.recv(256) for _ in range(2)] == [b"WATCHDOG=1", b"STOPPING=1"], "not more often than needed"
    monkeypatch.delenv("NOTIFY_SOCKET")
    Notifier().ready("nobody listens")
