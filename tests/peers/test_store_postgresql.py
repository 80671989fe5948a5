"""The store in PostgreSQL: the same as in SQLite, also while its server is killed."""

from __future__ import annotations

import contextlib
import glob
import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

import flatout
from conftest import ADMIN_PATH, wait_until
from flatout.errors import OutputError
from flatout.store.choose import compare
from flatout.store.location import store_url
from flatout.store.store import Store, Wanted

pytestmark = pytest.mark.peer
_PLACES = ":".join([*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), ADMIN_PATH])


class Database:
    """A PostgreSQL server of its own, reached over a socket in its folder; it does not run as root."""

    def __init__(self, folder: Path, programs: Callable[[str], str]) -> None:
        self.folder, self.data = folder, folder / "data"
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        if self._as:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        self._programs = programs
        self._run("initdb", "-D", self.data, "-U", "flatout", "-A", "trust", "--no-sync")
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        found = store_url({"FLATOUT_STORE": f"postgresql://flatout@/postgres?host={self.folder}"})
        assert found is not None
        return found

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._as, self._programs(program), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def start(self) -> None:
        command = [*self._as, self._programs("postgres"), "-D", self.data, "-k", self.folder, "-c", "listen_addresses="]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen([str(word) for word in command], stderr=log, stdout=log, cwd=self.folder)
        wait_until(lambda: _opens(self.url), message="ready")

    def kill(self) -> None:
        """Ends it in the middle: SIGKILL to it alone; its own processes see that and end."""
        if self._server is not None:
            self._server.send_signal(signal.SIGKILL)
            self._server.wait()
            self._server = None

    def killed_a_writer(self) -> bool:
        """SIGKILL to a process of the server that writes now: the server ends all others too, and recovers."""
        assert self._server is not None
        (children,) = Path(f"/proc/{self._server.pid}/task").glob("*/children")
        for child in map(int, children.read_text().split()):
            with contextlib.suppress(OSError):
                # It shows there what it does.
                if any(word in Path(f"/proc/{child}/cmdline").read_bytes() for word in (b"INSERT", b"COMMIT")):
                    os.kill(child, signal.SIGKILL)
                    return True
        return False

    def stop(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait()


def _opens(url: str) -> bool:
    try:
        Store(url).close()
    except OutputError:
        return False
    return True


@pytest.fixture
def database() -> Iterator[Database]:
    def programs(name: str) -> str:
        found = shutil.which(name, path=_PLACES)
        if found is None:
            pytest.skip(f"the program '{name}' is not installed")
        return found

    # A short path, as names of sockets have 107 bytes at most; open to the server's user.
    with tempfile.TemporaryDirectory(prefix="flatout-pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        made = Database(Path(folder), programs)
        made.start()
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the result of a short load."""
    path = tmp_path_factory.mktemp("result") / "load.json"
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        found = flatout.load("ntp", server.address, rate=500, duration=0.2, warmup=0)
    # On a busy machine it may be another one.
    msgspec.structs.replace(found, verdict="ok").save(path)
    return path


def _write(url: str, result: Path, times: int) -> None:
    one = flatout.read(result)
    with Store(url) as store:
        for _ in range(times):
            store.add(one, "written")


def test_runs_are_kept_listed_compared_and_removed(database: Database, result: Path) -> None:
    one = flatout.read(result)
    with Store(database.url) as store:
        for label in ("a", "a", "b", "b"):
            store.add(one, label)
        assert [run.id for run in store.runs(Wanted(label="a"))] == [2, 1]
        assert store.result(4) == one
        assert compare(store, "a", "b").outcome == "same"
        assert store.remove([1, 9]) == 1
        assert store.add(one) == 5


def test_several_writers_and_a_killed_one(database: Database, result: Path) -> None:
    one = flatout.read(result)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(database.url, result, n)) for n in (10, 10, 100_000)]
    for writer in writers:
        writer.start()
    for writer in writers[:2]:
        writer.join()
        assert writer.exitcode == 0
    with Store(database.url) as store:
        wait_until(lambda: len(store.runs()) > 25)
        writers[2].kill()
        writers[2].join()
        runs = store.runs()
        assert all(store.result(run.id) == one for run in runs)


def test_a_killed_server_loses_no_kept_run_and_is_said(database: Database, result: Path) -> None:
    one = flatout.read(result)
    with Store(database.url) as store:
        kept = [store.add(one) for _ in range(20)]
        database.kill()
        with pytest.raises(OutputError, match="cannot be written"):
            store.add(one)
        database.start()
        assert [run.id for run in store.runs()][::-1][:20] == kept
        assert all(store.result(number) == one for number in kept)
        assert store.add(one) > kept[-1]


def _acknowledge(url: str, result: Path, reported: Path) -> None:
    """Writes until the server is gone, and notes each number that it was given."""
    one = flatout.read(result)
    with reported.open("w") as file, Store(url) as store, contextlib.suppress(OutputError):
        while True:
            print(store.add(one), file=file, flush=True)


@pytest.mark.parametrize("killed", ["server", "writer"])
def test_a_server_killed_among_writers_loses_nothing_acknowledged(
    database: Database, result: Path, tmp_path: Path, killed: str
) -> None:
    spawn = multiprocessing.get_context("spawn")
    files = [tmp_path / str(n) for n in range(3)]
    writers = [spawn.Process(target=_acknowledge, args=(database.url, result, file)) for file in files]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(file.exists() and file.read_text().count("\n") > 5 for file in files), message="written")
    if killed == "server":
        database.kill()
        database.start()
    else:
        wait_until(database.killed_a_writer, message="caught in writing")
    for writer in writers:
        writer.join(20)
        assert writer.exitcode == 0, "it goes on, or failed otherwise"
    acknowledged = [int(line) for file in files for line in file.read_text().splitlines()]
    wait_until(lambda: _opens(database.url), message="recovered")
    one = flatout.read(result)
    with Store(database.url) as store:
        stored = [run.id for run in store.runs()]
        assert set(acknowledged) <= set(stored)
        assert len(acknowledged) == len(set(acknowledged))
        assert all(store.result(number) == one for number in stored)
