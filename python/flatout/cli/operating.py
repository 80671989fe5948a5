"""A server in operation: limits that are read again, metrics and commands, notifications, privileges given up."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flatout.cli import output as out
from flatout.cli.config import with_file
from flatout.cli.flags.serving import LimitFlags, Operation, Serving
from flatout.errors import FlatoutError
from flatout.server import endpoints, privileges
from flatout.server.answering import Answerer
from flatout.server.systemd import Notifier

Groups = tuple[Serving, LimitFlags, Operation, Any]


def _filled(path: str | None, given: Groups) -> Groups:
    serving, limits, operation, protocol_options = with_file(path, given)
    return serving, limits, operation, protocol_options


class Operator:
    """What surrounds a running server.

    `given`: the flags of the command line, without those of the file.
    """

    def __init__(self, given: Groups) -> None:
        """Errors: UsageError (the file, a user that is not known)."""
        path = given[2].config
        self._path = None if path is None else os.path.abspath(path)
        self._given = given
        self.flags = _filled(self._path, given)
        operation = self.flags[2]
        self._identity = None if operation.user is None else privileges.identity(operation.user)
        if self._identity is not None:
            privileges.no_new_privileges()
        self.notifier = Notifier()
        self._reloading = threading.Lock()

    @contextlib.contextmanager
    def around(self, server: Answerer) -> Iterator[None]:
        """Operates the server until the block ends. Errors: UsageError, GeneratorError."""
        operation = self.flags[2]
        with contextlib.ExitStack() as opened:
            if operation.prometheus is not None:
                opened.enter_context(endpoints.metrics(operation.prometheus, server.protocol, server.stats))
            if operation.control is not None:
                opened.enter_context(endpoints.control(operation.control, self._commands(server)))
            # What is imported late is there before the root directory changes.
            server.stats()
            "".encode("idna")  # what names of upstreams are encoded with, imported late
            if operation.chroot is not None:
                server.enter_root(operation.chroot)
            if self._identity is not None or operation.chroot is not None:
                privileges.drop(self._identity, operation.chroot)
            if self._path is not None:
                signal.signal(signal.SIGHUP, lambda *_: _start(lambda: self._reload_and_say(server)))
            self.notifier.ready(f"serving on {', '.join(server.addresses)}")
            yield
            self.notifier.stopping()

    def _commands(self, server: Answerer) -> dict[str, endpoints.Command]:
        return {"stats": server.stats, "clients": server.clients, "reload": lambda: self.reload(server)}

    def reload(self, server: Answerer) -> list[str]:
        """Reads file and lists again; returns what there is to say of it. Errors: UsageError; then nothing changes."""
        with self._reloading:
            self.notifier.reloading()
            said = "not reloaded"
            try:
                fresh = _filled(self._path, self._given)
                server.set_limits(fresh[1].limits())
                said = "reloaded"
                return [f"{name} changes with the next start" for name in self._other_changes(fresh)]
            finally:
                self.notifier.ready(said)

    def _other_changes(self, fresh: Groups) -> list[str]:
        """The flags that differ now and that a running server keeps."""
        pairs = [pair for n, pair in enumerate(zip(self.flags, fresh, strict=True)) if n != 1]
        changed = []
        for was, now in pairs:
            for option in dataclasses.fields(was):
                if getattr(was, option.name) != getattr(now, option.name):
                    changed.append(option.name)
        if self.flags[1].clients != fresh[1].clients:
            changed.append("clients")
        return changed

    def _reload_and_say(self, server: Answerer) -> None:
        try:
            for line in ("reloaded", *self.reload(server)):
                out.say(f"flatout: {line}")
        except FlatoutError as error:
            out.say(f"flatout: not reloaded, it goes on as before: {error}")


def _start(work: Callable[[], None]) -> None:
    """In a thread: a signal's handler may have interrupted what holds a lock."""
    threading.Thread(target=work, name="flatout-reload", daemon=True).start()
