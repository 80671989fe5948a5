"""The example `examples/game_server`: its rules on arrays, and the three programs as its README starts them."""

from __future__ import annotations

import importlib
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, free_port, wait_until

FOLDER = ROOT / "examples" / "game_server"
NOW = 1000.0


@pytest.fixture(scope="module", autouse=True)
def _example_on_the_path() -> object:
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


class Batch(np.ndarray):
    """What the server needs of a batch."""

    sender: np.ndarray


def batch(*rows: tuple[int, int, float, float]) -> Batch:
    from world import UPDATE

    made = np.array([(player, seq, 0, x, y) for player, seq, x, y in rows], UPDATE).view(Batch)
    made.sender = np.arange(len(rows), dtype="u4")
    return made


def test_the_latest_of_a_player_counts() -> None:
    from server import Game

    game = Game(10)
    game.ingest(batch((3, 5, 1, 1), (3, 6, 2, 2), (4, 0, 9, 9)), NOW)
    assert game.state["x"][3] == 2
    game.ingest(batch((3, 5, 7, 7)), NOW)
    assert game.state["x"][3] == 2, "an older one that comes late changes nothing"
    game.ingest(batch((3, 2**32 - 1, 8, 8)), NOW)
    assert game.state["x"][3] == 2, "nor does one from before the numbers wrapped"
    game.ingest(batch((3, 7, 3, 3)), NOW)
    assert game.state["x"][3] == 3
    assert np.flatnonzero(game.known).tolist() == [3, 4]
    assert game.refused == 0


def test_numbers_wrap() -> None:
    from server import Game

    game = Game(10)
    game.ingest(batch((1, 2**32 - 1, 5, 5)), NOW)
    game.ingest(batch((1, 0, 6, 6)), NOW)
    assert game.state["x"][1] == 6


def test_stragglers_are_refused_and_counted() -> None:
    from server import Game

    game = Game(10)
    game.ingest(batch((1, 100, 5, 5)), NOW)
    game.ingest(batch((1, 99, 6, 6), (1, 100, 6, 6), (1, 36, 6, 6)), NOW + 0.5)
    assert game.state["x"][1] == 5
    assert (game.stale, game.refused) == (3, 0)


def test_a_player_that_begins_again_is_followed_at_once() -> None:
    from server import Game

    game = Game(10)
    game.ingest(batch((1, 200, 5, 5), (2, 200, 5, 5)), NOW)
    game.ingest(batch((1, 0, 6, 6)), NOW + 0.1)
    game.ingest(batch((1, 1, 7, 7)), NOW + 0.2)
    assert game.state["x"][[1, 2]].tolist() == [7, 5]
    assert game.stale == 0


def test_a_player_that_begins_again_early_is_followed_after_a_silence() -> None:
    """Its numbers look like stragglers for as long as it had played; what is refused is no sign of life."""
    from server import Game

    game = Game(10)
    game.ingest(batch((1, 30, 5, 5)), NOW)
    for number in range(20):
        game.ingest(batch((1, number, 6, 6)), NOW + number / 20)
    assert (game.state["x"][1], game.stale) == (5, 20)
    game.ingest(batch((1, 20, 7, 7)), NOW + 1.01)
    game.ingest(batch((1, 21, 8, 8)), NOW + 1.05)
    assert (game.state["x"][1], game.stale) == (8, 20)


def test_what_is_against_the_rules_is_refused() -> None:
    from server import Game

    game = Game(10)
    game.ingest(batch((1, 0, -1, 5), (2, 0, 5, 1e6), (10, 0, 5, 5), (3, 0, float("nan"), 5)), NOW)
    assert game.refused == 4
    assert not game.known.any()


def test_spectators_are_no_players() -> None:
    from server import Game
    from world import SPECTATOR

    game = Game(10)
    game.ingest(batch((1, 0, 5, 5), (SPECTATOR, 0, 0, 0)), NOW)
    assert set(game.spectators) == {1}
    assert game.refused == 0


class Outlet:
    """Stands for a receiver that sends: notes to whom."""

    def __init__(self) -> None:
        self.reported: list[list[int]] = []

    def send(self, _data: object, to: np.ndarray) -> int:
        self.reported.append(to.tolist())
        return len(to)


def test_who_has_not_asked_for_a_while_is_sent_nothing_more() -> None:
    from server import Game
    from world import SPECTATOR

    game, outlet = Game(10), Outlet()

    def reported(now: float) -> list[list[int]]:
        outlet.reported.clear()
        game.broadcast(outlet, now)
        return list(outlet.reported)

    game.ingest(batch((1, 0, 5, 5), (SPECTATOR, 0, 0, 0), (SPECTATOR, 0, 0, 0)), NOW)
    assert reported(NOW) == [[1, 2]]
    again = batch((SPECTATOR, 0, 0, 0))
    again.sender[0] = 2
    game.ingest(again, NOW + 2)
    assert reported(NOW + 3) == [[1, 2]]
    assert reported(NOW + 3.1) == [[2]], "the other one's wish is too old"
    assert reported(NOW + 5.1) == []
    assert not game.spectators
    game.ingest(again, NOW + 60)
    assert reported(NOW + 60) == [[2]], "and may wish again"


def test_snapshots_are_read_as_they_were_made() -> None:
    from world import UPDATE, read_snapshot, snapshots

    state = np.zeros(250, UPDATE)
    state["x"] = np.arange(250)
    parts = [read_snapshot(part.tobytes()) for part in snapshots(7, np.arange(250), state)]
    assert [tick for tick, _ in parts] == [7, 7, 7]
    assert np.concatenate([places["x"] for _, places in parts]).tolist() == list(range(250))
    with pytest.raises(ValueError, match="as long"):
        read_snapshot(snapshots(7, np.arange(3), state)[0].tobytes()[:-12])


# --- The programs ---


def runs(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    """A program as its command line runs it, in this process."""
    from command import run

    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    run(importlib.import_module(name).main)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("server", ("--listen", "nowhere"), "listen address 'nowhere'"),
        ("server", ("--listen", "203.0.113.7:0"), "cannot listen on 203.0.113.7:0"),
        ("server", ("--tick", "0"), "rate '0'"),
        ("server", ("--players", "0"), "players '0': there must be one at least"),
        ("server", ("--for", "soon"), "duration 'soon'"),
        ("players", ("--target", "127.0.0.1:"), "target '127.0.0.1:'"),
        ("players", ("--target", "8.8.8.8:5"), "is a public address"),
        ("players", ("--players", "0"), "players '0'"),
        ("players", ("--rate", "-1"), "rate '-1'"),
        ("spectator", ("--server", "31234"), "write it like 127.0.0.1:31234"),
        ("spectator", ("--server", "127.0.0.1:x"), "write it like"),
        ("spectator", ("--server", "127.0.0.1:65536"), "write it like"),
        ("spectator", ("--server", "nosuch.invalid:5"), "server 'nosuch.invalid:5' cannot be reached"),
        ("spectator", ("--for", "1ms", "--picture", "/nowhere/world.svg"), "'/nowhere/world.svg' cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_use_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        runs(monkeypatch, name, *arguments)
    reported = capsys.readouterr().err
    assert ended.value.code in (1, 2)
    assert reported.startswith(f"{name}.py: ")
    assert said in reported
    assert reported.count("\n") == 1


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_players_with_their_sum(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import players

    monkeypatch.setattr(players.time, "sleep", interrupt)
    runs(monkeypatch, "players", "--target", f"127.0.0.1:{free_port()}", "--players", "7")
    assert capsys.readouterr().out == "stopped\n7 players sent 7 updates\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ctrl_c_ends_watching_with_a_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    """Over both families: one snapshot comes, then Ctrl-C."""
    import spectator
    from world import UPDATE, snapshots

    state = np.zeros(3, UPDATE)
    (snapshot,) = snapshots(1, np.arange(3), state)
    read = spectator.read_snapshot
    heard: list[bytes] = []

    def read_once(datagram: bytes) -> object:
        if heard:
            interrupt()
        heard.append(datagram)
        return read(datagram)

    monkeypatch.setattr(spectator, "read_snapshot", read_once)
    picture = tmp_path / "world.svg"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        server.settimeout(20)

        def serve() -> None:
            _, spectating = server.recvfrom(100)
            for _ in range(2):
                server.sendto(snapshot.tobytes(), spectating)

        serving = threading.Thread(target=serve)
        serving.start()
        port = server.getsockname()[1]
        at = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        runs(monkeypatch, "spectator", "--server", at, "--for", "20s", "--picture", str(picture))
        serving.join()
    assert picture.read_text(encoding="utf-8").count("<circle") == 3


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(FOLDER / name), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_programs_play_together(tmp_path: Path) -> None:
    picture = tmp_path / "world.svg"
    with start("server.py", "--listen", "127.0.0.1:0", "--for", "30") as server:
        assert server.stdout
        at = server.stdout.readline().rpartition(" ")[2].strip()
        with (
            start("players.py", "--target", at, "--players", "50", "--rate", "10", "--for", "4") as players,
            start("spectator.py", "--server", at, "--for", "3", "--picture", str(picture)) as spectator,
        ):
            sent = int(re.findall(r"[\d,]+", players.communicate(timeout=30)[0])[1].replace(",", ""))
            saw = spectator.communicate(timeout=30)[0]
        assert sent == 2000
        assert "of 50 players" in saw

        def all_came() -> bool:
            line = server.stdout.readline() if server.stdout else ""
            found = re.search(r"([\d,]+) players, ([\d,]+) updates, 0 lost on the way, 0 dropped here, 0 against", line)
            # The spectator's wishes are updates too, one or more.
            return found is not None and found[1] == "50" and int(found[2].replace(",", "")) > sent

        wait_until(all_came)
        server.terminate()
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.count("<circle") == drawn.count("<polyline") == 50
