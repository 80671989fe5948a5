"""What all pages that are open are told: one reader of what runs now and of the newest kept run, however many watch.

A page gets the latest state, not each change: one that is slow to read, or a run that changes a thousand times a
second, needs no more memory here than any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from flatout.errors import FlatoutError
from flatout.store.live import LiveRun, live_runs
from flatout.store.store import Store

_READ_S = 0.25
# How often the store is asked for its newest run, and a page without news is shown that the server is there.
_STORE_S, _SILENT_S = 1.0, 10.0
# Pages that may be open at once.
_MOST = 64


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a page is told: what runs, the number of the newest kept run (0: none), and what is wrong with the store."""

    live: list[LiveRun] = []
    newest: int = 0
    fault: str = ""


class Feed:
    """Reads while somebody watches."""

    def __init__(self, store: Store, folder: Path | None) -> None:
        self._store, self._folder = store, folder
        self._state = State()
        self._asked_at = self._read_at = float("-inf")
        self._watching, self._ended = 0, False
        self._lock = asyncio.Lock()

    @property
    def full(self) -> bool:
        """Whether another page would be one too many."""
        return self._watching >= _MOST

    def end(self) -> None:
        """Ends what pages are listening to, soon."""
        self._ended = True

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events (HTML Living Standard, 9.2): the state whenever it has changed."""
        self._watching += 1
        try:
            sent, sent_at = b"", float("-inf")
            while not self._ended:
                data = msgspec.json.encode(await self._now())
                if data != sent:
                    sent, sent_at = data, time.monotonic()
                    yield b"data: " + data + b"\n\n"
                elif time.monotonic() - sent_at > _SILENT_S:
                    sent_at = time.monotonic()
                    yield b": nothing new\n\n"
                await asyncio.sleep(_READ_S)
        finally:
            self._watching -= 1

    async def _now(self) -> State:
        async with self._lock:
            if time.monotonic() - self._read_at >= _READ_S:
                self._state = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
            return self._state

    def _read(self) -> State:
        live = live_runs(self._folder) if self._folder else []
        newest, fault = self._state.newest, self._state.fault
        if time.monotonic() - self._asked_at >= _STORE_S:
            fault = ""
            try:
                newest = max((run.id for run in self._store.runs(last=1)), default=0)
            except FlatoutError as error:
                fault = str(error)
            self._asked_at = time.monotonic()
        return State(live=live, newest=newest, fault=fault)
