"""Whether a target answers: a few requests of a scenario, over its transport, before anything is measured."""

from __future__ import annotations

import socket

import msgspec

from flatout.errors import TargetError
from flatout.runner.run import run
from flatout.scenario.model import Scenario

_ASK_S, _ASK_PER_S = 0.02, 200.0
_ASK_TIMEOUT_S = 0.2
# For so long a refusal may be on its way.
_REFUSED_S = 0.02


def answers(scenario: Scenario) -> bool:
    """Whether the target, an address with its port, answers a few requests over the scenario's transport."""
    if not (_accepts(scenario.target) if scenario.streams else _listens(scenario.target)):
        return False
    few: dict[str, object] = {"connections": 1, "connect_timeout_s": 1.0} if scenario.streams else {"flows": 1}
    gentle = msgspec.structs.replace(
        scenario.at(_ASK_PER_S, _ASK_S),
        warmup_s=0.0,
        timeout_s=_ASK_TIMEOUT_S,
        arrivals="constant",
        threads=1,
        cpus=(),
        hold=0,
        churn=0,
        require=(),
        link="socket",
        interface=None,
        gateway_mac=None,
        **few,
    )
    try:
        asked = run(gentle)
    except TargetError:
        return False
    came = asked.outcomes.answered if asked.outcomes.received is None else asked.outcomes.received
    return came > 0


def _accepts(target: str) -> bool:
    try:
        with socket.create_connection(_host_and_port(target), timeout=1):
            return True
    except OSError:
        return False


def _listens(target: str) -> bool:
    """Whether an empty datagram is not refused: cheaper than a load, which would take the CPU that the server needs."""
    host, port = _host_and_port(target)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            asker.settimeout(_REFUSED_S)
            asker.connect((host, port))
            asker.send(b"")
            asker.recv(1)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def _host_and_port(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host.strip("[]"), int(port)
