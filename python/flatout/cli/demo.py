"""`flatout demo`: the main job in under two minutes, on this machine alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from flatout import searching
from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.cli.limit import seek
from flatout.errors import FlatoutError
from flatout.result.files import unfold
from flatout.result.model import Beside, LimitResult
from flatout.runner.run import run
from flatout.server.answering import Answerer

_CHRONY = """\
local stratum 10
allow 127.0.0.1
port {port}
bindaddress 127.0.0.1
cmdport 0
bindcmdaddress /
pidfile {folder}/pid
noclientlog
"""


def demo(
    *,
    budget: Annotated[str, Parameter(help="Time for each search.")] = "40s",
    json: Annotated[str, Parameter(help="The results as JSON.")] = "flatout-demo.json",
    html: Annotated[str, Parameter(help="The report.")] = "flatout-demo.html",
    quiet: Annotated[bool, Parameter(negative=(), help="Print errors only.")] = False,
) -> int:
    """Find the limit of the NTP servers on this machine: flatout's own, and chronyd where it is installed.

    Everything happens on loopback and ends by itself.
    """
    cpus = sorted(os.sched_getaffinity(0))
    asking, serving = cpus[0], cpus[-1]
    results: list[tuple[str, LimitResult]] = []
    output = Output(json=json, html=html, quiet=quiet)
    out.check_writable(output)
    if not quiet:
        out.say(f"flatout demo: asking from CPU {asking}, serving on CPU {serving}, all on loopback")
    with Answerer("ntp", "127.0.0.1:0", cpus=(serving,)) as server:
        results.append(("flatout serve ntp", _search("flatout serve ntp", server.address, asking, budget, quiet=quiet)))
    code = out.DONE if _interrupted(results) else _compare(results, serving, asking, budget, quiet=quiet)
    together = _together(results)
    code = out.worst([code, out.deliver(unfold("", together), output, stored=together)])
    # A generator that is slower than a server is a result of the demo, not its failure.
    return out.DONE if code == out.GENERATOR else code


def _compare(results: list[tuple[str, LimitResult]], serving: int, asking: int, budget: str, *, quiet: bool) -> int:
    """Adds chronyd's result, where it is installed; returns the exit code. What fails here costs no earlier result."""
    try:
        with _chronyd(serving) as address:
            if address:
                results.append(("chronyd", _search("chronyd", address, asking, budget, quiet=quiet)))
            elif not quiet:
                out.say("chronyd is not installed here: Debian's package is 'chrony'. Going on without it.")
    except FlatoutError as error:
        out.say(f"flatout: {error}")
        return error.exit_code
    except OSError as error:
        out.say(f"flatout: chronyd cannot be started: {error.strerror}")
        return out.UNMET
    except KeyboardInterrupt:
        return out.INTERRUPTED
    return out.DONE


def _search(title: str, address: str, cpu: int, budget: str, *, quiet: bool) -> LimitResult:
    scenario = searching.trial_scenario("ntp", address, cpus=(cpu,))
    search = searching.search_of(scenario, loss="0.5%", p99="5ms", least=None, most=None, within="2%", budget=budget)
    return seek(scenario, search, quiet=quiet, title=f"limit of {title}")


def _together(results: list[tuple[str, LimitResult]]) -> LimitResult:
    """One result: the first search, the others beside it."""
    (title, first), *others = results
    beside = [Beside(title=name, result=result) for name, result in others]
    return msgspec.structs.replace(first, title=title, beside=beside)


def _interrupted(results: list[tuple[str, LimitResult]]) -> bool:
    return any(result.limit.stopped_by == "interrupted" for _, result in results)


@contextlib.contextmanager
def _chronyd(cpu: int) -> Iterator[str | None]:
    """Run chronyd, not touching the clock, on a free port of loopback; its address, or None where it is missing."""
    path = shutil.which("chronyd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="flatout-chrony-") as folder:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = Path(folder, "chrony.conf")
        config.write_text(_CHRONY.format(port=port, folder=folder), encoding="ascii")
        user = ["-u", "root"] if os.geteuid() == 0 else []
        command = [path, "-x", "-d", "-U", *user, "-f", str(config)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as chronyd:
            try:
                os.sched_setaffinity(chronyd.pid, {cpu})
                yield _ready(f"127.0.0.1:{port}", chronyd)
            finally:
                chronyd.terminate()


def _ready(address: str, chronyd: subprocess.Popen[bytes]) -> str:
    """The address, once chronyd answers there."""
    gentle = msgspec.structs.replace(searching.trial_scenario("ntp", address).at(100, 0.1), warmup_s=0.0)
    for _ in range(50):
        if chronyd.poll() is not None:
            raise FlatoutError(f"chronyd ended at once (exit code {chronyd.returncode})")
        if run(gentle).outcomes.answered:
            return address
        time.sleep(0.1)
    raise FlatoutError(f"chronyd does not answer on {address}")
