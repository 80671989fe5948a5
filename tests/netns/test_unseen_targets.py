"""Targets whose process, CPUs or waits cannot be seen, that end, or that leave one CPU: said in a line, no crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from conftest import Cli, Net, Ran, Running, free_port, may_have_namespaces, wait_until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root", "namespaces")]

FIRST, LAST = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
LOAD = ("--rate", "2k", "--for", "300ms", "--warmup", "200ms", "--json", "load.json")
LIMIT = ("--budget", "5s", "--max", "2k", "--json", "limit.json")
# Root without its capabilities is like another user: it may not look at processes that have them.
HIDEPID = 'mount -t proc -o hidepid=2 proc /proc && exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
ANOTHER_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
UNSEEN = "the process that holds the target's socket cannot be seen from here"
YIELDS = "perhaps shared with the target, so threads yield instead of spinning: "


def with_mounts(script: str) -> Sequence[str]:
    """The beginning of a command line: what follows runs with mounts of its own, by a script that ends in it."""
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def pinned(cpu: int) -> Sequence[str]:
    return ("taskset", "-c", str(cpu))


@pytest.fixture
def namespaces(peer: Callable[[str], str]) -> None:
    for tool in ("unshare", "setpriv", "taskset"):
        peer(tool)
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True, check=False
    )
    may_have_namespaces(done)


class Served:
    """A server in a process of its own."""

    def __init__(self, cli: Cli, address: str, through: Sequence[str] = (), inside: str | None = None) -> None:
        self.address = address
        served = ("serve", "ntp", "--listen", address, "--threads", 1, "--for", "60s")
        self.running: Running = cli.start(*served, through=through, inside=inside)
        wait_until(lambda: "Ctrl-C" in self.running.err.read_text(), message="serving")

    @property
    def pid(self) -> int:
        """The process itself, behind what runs it."""
        pid = self.running.process.pid
        while children := _children(pid):
            (pid,) = children
        return pid


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


@pytest.fixture
def served(cli: Cli) -> Served:
    return Served(cli, f"127.0.0.1:{free_port()}", pinned(FIRST))


def measured(cli: Cli, verb: str, address: str, *through: str) -> tuple[Ran, dict[str, Any], str]:
    """How a run or a search ended, the JSON of its (last) run, and its text in one line."""
    flags = LOAD if verb == "load" else LIMIT
    done = cli.start(verb, "ntp", address, *flags, through=through).end()
    assert "Traceback" not in done.err, done.err
    result: dict[str, Any] = read(cli, f"{verb}.json")
    return done, result["trials"][-1] if verb == "limit" else result, " ".join(done.out.split())


def read(cli: Cli, name: str) -> Any:
    return json.loads((cli.folder / name).read_text(encoding="utf-8"))


both_verbs = pytest.mark.parametrize("verb", ["load", "limit"])


@both_verbs
def test_with_hidepid(cli: Cli, served: Served, verb: str) -> None:
    _, run, text = measured(cli, verb, served.address, *with_mounts(HIDEPID))
    assert (run["placement"]["where"], run["placement"]["target"]) == ("hidden", None)
    # A search must not keep it from a CPU, as nothing would tell.
    assert (YIELDS if verb == "limit" or FIRST == LAST else "is unknown: ") + UNSEEN in text


def test_with_hidepid_and_one_cpu_the_load_yields(cli: Cli, served: Served) -> None:
    _, run, text = measured(cli, "load", served.address, *pinned(FIRST), *with_mounts(HIDEPID))
    assert (run["placement"]["where"], run["placement"]["shared_cpus"]) == ("hidden", [FIRST])
    assert f"CPU {FIRST} was {YIELDS}{UNSEEN}" in text


@both_verbs
def test_from_a_container_whose_host_has_the_target(cli: Cli, served: Served, verb: str) -> None:
    _, run, text = measured(cli, verb, served.address, *ANOTHER_PID_NAMESPACE)
    assert run["placement"]["where"] == "hidden"
    assert UNSEEN in text


@both_verbs
def test_without_schedstat(cli: Cli, served: Served, verb: str) -> None:
    script = f'for at in /proc/{served.pid}/task/*; do mount --bind /dev/null $at/schedstat; done; exec "$@"'
    _, run, text = measured(cli, verb, served.address, *with_mounts(script))
    assert run["placement"]["target"]["pids"] == [served.pid]
    assert run["contention"]["target"] is None
    assert f"(process {served.pid}) waited for CPUs is unknown: this kernel does not count it (schedstat)." in text


@both_verbs
def test_with_one_cpu(cli: Cli, served: Served, verb: str) -> None:
    _, run, text = measured(cli, verb, served.address, *pinned(FIRST))
    assert run["placement"]["shared_cpus"] == [FIRST]
    assert f"CPU {FIRST} was shared with" in text
    assert "threads yield instead of spinning: this process may use one CPU only." in text


@pytest.mark.skipif(FIRST == LAST, reason="one CPU")
def test_with_a_mask_without_the_first_cpu(cli: Cli, served: Served) -> None:
    _, run, text = measured(cli, "load", served.address, *pinned(LAST))
    assert run["host"]["affinity"] == [LAST]
    assert (run["placement"]["cpus"], run["placement"]["shared_cpus"]) == ([LAST], [])
    assert run["placement"]["why"].startswith("apart from ")
    assert "shared" not in text


@both_verbs
def test_a_target_in_a_container(cli: Cli, net: Net, verb: str) -> None:
    """Another network namespace and another PID namespace; seen from the host."""
    address = f"{net.right_v4}:1123"
    served = Served(cli, address, ANOTHER_PID_NAMESPACE, inside=net.right)
    flags = LOAD if verb == "load" else LIMIT
    done = cli.start(verb, "ntp", address, *flags, inside=net.left).end()
    assert "Traceback" not in done.err, done.err
    result = read(cli, f"{verb}.json")
    run = result["trials"][-1] if verb == "limit" else result
    assert run["placement"]["where"] == "namespace"
    assert run["placement"]["target"]["pids"] == [served.pid]
    assert "in another network namespace)" in run["placement"]["why"]


def test_a_process_that_vanishes_in_a_load(cli: Cli, served: Served) -> None:
    flags = ("--rate", "2k", "--for", "20s", "--json", "load.json")
    running = cli.start("load", "ntp", served.address, *flags)
    wait_until(lambda: "asked" in running.err.read_text(), message="running")
    pid = served.pid
    os.kill(pid, signal.SIGKILL)
    done = running.end()
    result = read(cli, "load.json")
    assert (done.code, result["verdict"]) == (3, "target-lost")
    assert result["why"].endswith(f"(process {pid}) ended")
    assert result["placement"]["target"]["ended"] == [pid]


def test_a_process_that_vanishes_in_a_search(cli: Cli, served: Served) -> None:
    running = cli.start("limit", "ntp", served.address, "--budget", "30s", "--json", "limit.json")
    wait_until(lambda: "held" in running.err.read_text(), message="searching")
    pid = served.pid
    os.kill(pid, signal.SIGKILL)
    done = running.end()
    result = read(cli, "limit.json")
    assert (done.code, result["limit"]["stopped_by"]) == (3, "target"), done.err
    assert "Traceback" not in done.err
    assert result["sentence"].startswith("The target stopped answering: "), result["sentence"]
    # It may end in a trial or between two.
    assert f"(process {pid}) ended. Until" in result["sentence"] or f"(process {pid}) no longer" in result["sentence"]
