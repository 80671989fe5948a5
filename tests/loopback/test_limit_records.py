"""The search where nothing comes back: it ends where its receiver loses, not where this machine does."""

from __future__ import annotations

import re
import threading
import time

import pytest

import flatout
from conftest import Cli, free_port, until_good
from flatout.result.model import Trial


def slow_handler_limit() -> flatout.LimitResult:
    """What is found of a handler of some 10,000 records a second at most behind a short queue."""
    with flatout.Receiver("127.0.0.1:0", counters=True, queue=500, full="drop-newest", batch=100) as receiver:

        def take_slowly() -> None:
            while receiver.alive:
                if receiver.take(0.1) is not None:
                    time.sleep(0.01)

        handler = threading.Thread(target=take_slowly)
        handler.start()
        try:
            return flatout.limit("record", receiver.address, loss="1%", least=1000, most="200k", budget=15, within=0.2)
        finally:
            receiver.stop()
            handler.join()


def dropped_by_the_queue(found: flatout.LimitResult) -> list[Trial]:
    failed = [trial for trial in found.trials if trial.verdict == "failed"]
    return [trial for trial in failed if "the receiver's queue dropped" in trial.why]


def test_a_slow_handler_is_the_limit() -> None:
    found = until_good(slow_handler_limit, lambda limit: dropped_by_the_queue(limit) and limit.limit.upper is not None)
    assert dropped_by_the_queue(found), [(trial.intended_per_s, trial.verdict, trial.why) for trial in found.trials]
    assert found.limit.upper is not None
    assert found.limit.upper < 100_000
    for trial in found.trials:
        outcomes = trial.outcomes
        assert outcomes.received is not None
        assert outcomes.sent == outcomes.received + outcomes.lost + outcomes.invalid
        assert trial.receiver is not None


def test_without_counters_there_is_no_limit_to_find() -> None:
    with (
        flatout.Receiver("127.0.0.1:0", counters=False) as receiver,
        pytest.raises(flatout.TargetError, match="flatout serve"),
    ):
        flatout.limit("record", receiver.address, budget=10)
    with pytest.raises(flatout.TargetError, match="no receiver listens"):
        flatout.limit("record", f"127.0.0.1:{free_port()}", budget=10)


def test_commands_speak_of_messages_and_receivers(cli: Cli) -> None:
    """Rates that no generator drives bring out most of what is said."""
    with flatout.Receiver("127.0.0.1:0", counters=True) as receiver:
        receiver.drain()
        loads = [("--rate", rate, "--for", "100ms") for rate in ("1k", "20M")]
        said = [cli("load", "record", receiver.address, *flags) for flags in loads]
        said.append(cli("limit", "record", receiver.address, "--min", "100M", "--max", "200M", "--budget", "5s"))
    assert said[1].code == said[2].code == 4
    for done in said:
        assert not re.search(r"\b(requests?|answer(s|ed)?|server)\b", done.out + done.err), done
    assert "messages (" in said[1].out
    assert "cannot drive even 100,000,000 messages/s" in " ".join(said[2].out.split())
