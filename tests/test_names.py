"""The field's words: identifiers of this project's own invention do not come back.

Only names in code are looked at: not texts, comments or the JSON of results, which keeps its field names for ever.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

from test_architecture import ROOT, python_files, rust_code, rust_files

# Each old name with the standard term that replaced it.
RUST = {
    "Ask": "Client",
    "Asker": "Client",
    "Answerer": "Responder",
    "Take": "Decode",
    "Taker": "Decode",
    "Stranger": "Unmatched",
    "Moment": "RequestContext",
    "Refusal": "DropReason",
    "subject": "query",
    "Corpus": "QuerySet",
    "corpus": "query_set",
    "Lore": "AnswerTable",
    "lore": "answer_table",
    "Casting": "OneWaySender",
    "Rally": "PingPong",
    "Ball": "Outstanding",
    "Ears": "Poller",
    "heard": "ready",
    "heed": "on_completion",
    "Door": "AcceptQueue",
    "Bell": "EventFd",
    "silence": "drain",
    "Keeper": "PendingBudget",
    "Outlet": "BatchSender",
    "Intake": "ReceiveSocket",
    "Told": "StatsReply",
    "anew": "reset_sequences",
    "inquiry": "receiver_stats",
    "Handover": "RecordQueue",
    "Lane": "Shard",
    "Handed": "RecordBatch",
    "Judge": "Parser",
    "judge": "classify_reply",
    "Book": "RequestTracker",
    "Books": "ReceiverStats",
    "Board": "Published",
    "Follower": "SequenceTracker",
    "Followed": "SequenceCounters",
    "Crew": "ThreadGroup",
    "Pen": "LogWriter",
    "Gate": "StartBarrier",
    "Wrap": "StreamLayer",
    "Slip": "WriteGuard",
    "lend": "reserve",
    "fly": "submit",
    "Knob": "ProtocolOption",
    "knobs": "options",
}
PYTHON = {
    "Account": "LossAccount",
    "Attendance": "RunMonitor",
    "Casting": "OneWayFlags",
    "Inquiry": "StatsQuery",
    "inquiry": "receiver_stats",
    "anew": "reset_sequences",
    "Judgement": "TrialEvaluation",
    "judge": "evaluate_trial",
    "Knobs": "Options",
    "knobs": "options",
    "Look": "Sample",
    "RefusalWatch": "RefusalMonitor",
    "Terms": "Wording",
    "terms": "wording",
    "terms_of": "wording_of",
    "Watch": "TargetMonitor",
    "players": "senders",
    "told": "reported",
}
# The game example and its test are about players.
_GAMES = (ROOT / "examples" / "game_server", ROOT / "tests" / "loopback" / "test_example_game.py")
_WORD = re.compile(r"[A-Za-z_]\w*")


def python_names(text: str) -> list[tuple[str, int]]:
    """The names of a module with their lines; texts and comments are none."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(token.string, token.start[0]) for token in tokens if token.type == tokenize.NAME]


def rust_names(path: Path) -> list[tuple[str, int]]:
    """The same of a Rust file."""
    lines = rust_code(path).splitlines()
    return [(word, number) for number, line in enumerate(lines, 1) for word in _WORD.findall(line)]


def old_names(found: list[tuple[str, int]], words: dict[str, str], path: Path) -> list[str]:
    """Where a name is one that was replaced, and by what."""
    where = path.relative_to(ROOT).as_posix()
    return [f"{where}:{line} {name} (say {words[name]})" for name, line in found if name in words]


def test_no_old_name_is_left_in_rust() -> None:
    files = rust_files()
    assert len(files) > 100, "the search for files finds them"
    assert [hit for path in files for hit in old_names(rust_names(path), RUST, path)] == []


def test_no_old_name_is_left_in_python() -> None:
    files = [path for path in python_files() if path != Path(__file__)]
    assert len(files) > 200, "the search for files finds them"
    found = []
    for path in files:
        words = {
            old: new
            for old, new in PYTHON.items()
            if old != "players" or not any(path.is_relative_to(game) for game in _GAMES)
        }
        found += old_names(python_names(path.read_text(encoding="utf-8")), words, path)
    assert found == []


@pytest.mark.parametrize("text", ["told = 1", "def f(knobs): ...", "import x.inquiry", "class Attendance: ..."])
def test_an_old_name_is_found(text: str) -> None:
    assert old_names(python_names(text), PYTHON, ROOT / "x.py")


def test_a_text_is_no_name() -> None:
    assert not old_names(python_names("x = 'knobs'  # told\n"), PYTHON, ROOT / "x.py")
