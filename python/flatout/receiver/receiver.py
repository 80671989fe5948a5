"""Receives small messages into NumPy: `for batch in flatout.Receiver("0.0.0.0:31234", dtype): ...`.

Method: the engine receives, checks and counts on threads of its own, and hands over whole batches. Nothing here handles
a single message. Waiting is done in short steps, lingering too, so that signals are handled.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Literal, get_args

import numpy as np

from flatout import arguments, units
from flatout._engine import Receiver as _Receiver
from flatout.errors import GeneratorError, UsageError
from flatout.host import fallbacks
from flatout.plan import capacity, targets
from flatout.protocols import layout_of
from flatout.receiver import batch as batches
from flatout.receiver.batch import Batch
from flatout.receiver.link import link_of
from flatout.result.histogram import distribution
from flatout.server.base import Server, bound

Full = Literal["drop-oldest", "drop-newest", "wait"]
Stamps = Literal["user", "kernel"]

_DEFAULT = "127.0.0.1:31234"
# A thread that waits in the engine hears no signal.
_STEP_S = 0.1
# A step has room for it and for waiting. Longer it would bring nothing: batches come 20 times a second then.
_LONGEST_LINGER_S = 0.05
# What the kernel's setting of a socket's buffer can say.
_LARGEST_BUFFER = (1 << 31) - 1
# How often an event loop looks whether it has lingered enough.
_LOOK_S = 0.001
_LONGEST_DATAGRAM = 65507
# Bytes, as crates/engine/src/receive has them: time and source of a record; a place in the table of sequence numbers;
# an address in the list of sources and in what finds it there.
_BESIDE_A_RECORD, _PLACE, _ADDRESS = 12, 32, 152
_HIGHEST_NUMBER = 0xFFFFFFFF
_SUMS = (
    "arrivals",
    "received",
    "parsed",
    "handed_over",
    "missing",
    "duplicate",
    "reordered",
    "restarts",
    "untracked",
    "senders",
    "kernel_drops",
    "ahead",
    "bytes",
    "memory_bytes",
)
_MALFORMED = ("short", "long", "wrong_constant")


class Receiver(Server):
    """Takes in records of one layout until it is stopped. Its methods may be used from several threads.

    A stop ends all iterations; what had arrived waits for `take`.
    """

    _engine: _Receiver

    def __init__(
        self,
        listen: str = _DEFAULT,
        dtype: Any = None,
        *,
        threads: int | str = 1,
        cpus: Iterable[int] | str = (),
        shared: bool = False,
        gro: bool = True,
        stamps: Stamps = "user",
        buffer: int | str = "4MiB",
        queue: int | str = 65536,
        full: Full = "drop-oldest",
        batch: int | str = 16384,
        idle: float | str | None = None,
        linger: float | str = 0.001,
        follow: int | str = 1 << 20,
        counters: bool = False,
        endian: Literal["little", "big"] = "little",
        link: Literal["socket", "xdp"] = "socket",
        interface: str | None = None,
    ) -> None:
        """Binds and starts. Port 0 takes a free one.

        `dtype`: a NumPy dtype or text such as "id:u4 seq:u4 sent:u8 x:f4 y:f4", which is the default; `endian`: the
        byte order of text that says none. `threads` receive, each with a socket of its own over which the kernel
        spreads the senders, or all with one if `shared`; they keep to `cpus`. `gro`: the kernel may hand over several
        messages of one sender as one. `stamps`: who says when messages arrive, the thread that reads them ("user") or
        the kernel. `buffer`: of each socket. `queue`: how many records may wait, and `full`: what happens to more.
        `batch`: records in a batch at most. `idle`: iteration ends after so many seconds without traffic. `linger`:
        for how long to wait for more once something is there, at most 0.05 s. `follow`: how many senders' numbers are
        followed. `counters`: whether senders that ask on the same port are told what has arrived. `link`: "xdp" takes
        what the queues of `interface` have, a thread each (docs/xdp.md). Numbers and times may be text: "64k", "5s".
        Errors: UsageError (a setting, the layout, no permission, not an address of this host, already in use).
        """
        layout = layout_of(dtype, endian)
        self._idle = None if idle is None else units.seconds("idle", idle)
        self._linger = units.seconds("linger", linger, most=_LONGEST_LINGER_S)
        self._batch, self._queue = units.whole("batch", batch, 1 << 32), units.whole("queue", queue, 1 << 32)
        self._full, self._follow = full, units.whole("follow", follow, 1 << 26)
        shared, gro, counters = _switches(shared=shared, gro=gro, counters=counters)
        _check_words(full=(full, Full), stamps=(stamps, Stamps))
        self._buffer = units.whole("buffer", buffer, _LARGEST_BUFFER, units.size)
        inflow = self._inflow((listen, link, interface), units.whole("threads", threads, 1024), shared=shared, gro=gro)
        self._engine = bound(
            _Receiver,
            listen,
            protocol=layout.protocol,
            options=layout.engine_options(),
            cpus=list(capacity.cpus_of(cpus)),
            stamps=stamps == "kernel",
            queue=self._queue,
            when_full=full,
            tracked=self._follow,
            tells=counters,
            **inflow,
        )
        super().__init__(layout.protocol, inflow["workers"])
        self.layout, self.dtype = layout, layout.dtype
        self._sockets, self._heard = 1 if shared else self.threads, self._began

    def _inflow(self, where: tuple[str, Any, Any], threads: int, *, shared: bool, gro: bool) -> dict[str, Any]:
        """The engine's settings of what it receives by: sockets, or queues of an interface. Errors: UsageError."""
        listen, link, interface = where
        alone = threads == 1 and not shared
        self._link = found = link_of(link, interface, listen, self._buffer, one_each=alone, gro=gro)
        workers, plan = (threads, None) if found is None else (found.queues, found.plan)
        return {"workers": workers, "shared": shared, "coalesced": gro, "buffer": self._buffer, "xdp": plan}

    @property
    def idle(self) -> float | None:
        """Seconds without traffic after which iteration ends; None: never."""
        return self._idle

    @property
    def linger(self) -> float:
        """Seconds to wait for more once something is there."""
        return self._linger

    # --- Taking ---

    def take(self, timeout: float | str | None = None) -> Batch | None:
        """The next batch; None if none came within `timeout` seconds or the receiver was stopped.

        After a stop it still hands over what had arrived. Errors: GeneratorError where it can receive no more.
        """
        left = math.inf if timeout is None else units.seconds("timeout", timeout, -math.inf, math.inf)
        until = time.monotonic() + left
        while True:
            left = max(until - time.monotonic(), 0.0)
            taken = self._take(left)
            if taken is not None or self._stopped or not left:
                return taken

    def _take(self, left_s: float) -> Batch | None:
        """A batch, if one comes within a step and so many seconds; what it lingers is part of both."""
        step = min(left_s, _STEP_S)
        linger = self._linger if self._linger < step else 0.0
        taken = self._engine.take(self._batch, step - linger, linger)
        if taken is None:
            if not self._stopped and self.errors:
                raise GeneratorError(f"the receiver has ended: {'; '.join(self.errors)}")
            return None
        self._heard = time.monotonic()
        raw, arrived, source, worker = taken
        return batches.of(raw, self.dtype, arrived, source, worker)

    def _left(self, since: float) -> float:
        """Seconds until silence has lasted too long."""
        return math.inf if self._idle is None else max(max(self._heard, since) + self._idle - time.monotonic(), 0.0)

    def __iter__(self) -> Iterator[Batch]:
        """Batches until `stop()`, or until nothing has come for `idle` seconds. Errors as for `take`."""
        since = time.monotonic()
        while not self._stopped:
            left = self._left(since)
            taken = self._take(left)
            if taken is not None:
                yield taken
            elif not left:
                return

    async def __aiter__(self) -> AsyncIterator[Batch]:
        """The same without blocking the event loop; several tasks may iterate."""
        since = time.monotonic()
        loop = asyncio.get_running_loop()
        # An event loop knows each descriptor once, so each iteration brings its own.
        bell = os.dup(self._engine.fileno())
        try:
            while not self._stopped:
                taken = self._take(0.0)
                if taken is not None:
                    yield taken
                    # A flood must not keep other tasks from running.
                    await asyncio.sleep(0)
                elif not (left := self._left(since)):
                    return
                elif self._engine.arm() and await _rung(loop, bell, left):
                    await self._linger_for(min(self._linger, self._left(since)))
        finally:
            os.close(bell)

    async def _linger_for(self, seconds: float) -> None:
        """Waits for more, until a batch or half of the queue is full."""
        enough = min(self._batch, -(-self._queue // 2))
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped:
            await asyncio.sleep(min(left, _LOOK_S))
            if sum(worker["queued"] for worker in self._engine.received()) >= enough:
                return

    def drain(self) -> None:
        """Starts the engine's own handler, which takes all that comes, and only counts it."""
        self._engine.drain()

    # --- Answering ---

    def source(self, number: int) -> str | None:
        """The address with a number that `Batch.sender` gave, as text; None where there was no room to keep it."""
        number = units.integer("number", number)
        found = self._engine.source(number) if 0 <= number <= _HIGHEST_NUMBER else None
        return None if found is None else str(targets.Endpoint(*found))

    def send(self, data: Any, to: Any) -> int:
        """Sends one datagram to each of the sources with these numbers, from the port listened on.

        `data` is an array or bytes; `to` are numbers as in `Batch.sender`. Returns how many left; the rest the kernel
        refused. Both are copied before anything leaves. On a Python without GIL other threads must not write into them
        until this returns. Errors: UsageError where that makes no datagram, or no numbers.
        """
        return self._engine.send(_datagram(data), _numbers(to))

    # --- Counting ---

    @property
    def memory_bound(self) -> int:
        """Bytes that it holds at most, about: the queue's, and those of all senders that it may follow."""
        queue = self._queue * (self.layout.size + _BESIDE_A_RECORD)
        # The table has two places a sender, in a power of two, for each socket.
        places = 1 << (2 * self._follow - 1).bit_length()
        frames = 0 if self._link is None else self._link.memory
        return queue + self._sockets * places * _PLACE + self._follow * _ADDRESS + frames

    @property
    def notes(self) -> list[str]:
        """What replaces system calls that this host refuses, and how datagrams are taken from an interface."""
        how = [] if self._link is None else self._link.notes(self._engine.link)
        return [*how, *fallbacks.notes("recvmmsg")]

    def stats(self) -> dict[str, Any]:
        """Cumulative counters.

        `received` = `parsed` + all `malformed`, and `parsed` = `handed_over` + `queue["dropped"]` + `queue["waiting"]`.
        `missing`, `duplicate`, `reordered`: by sequence number; `restarts`: numbers too far from their sender's others;
        `untracked`: records whose sender found no place, or only by having another forgotten. `arrivals`: what the
        kernel handed over, and `kernel_drops`: what the sockets dropped; both count coalesced records once. `delay_ns`:
        the one-way delay by the two clocks, None where records carry no time; `ahead` counts what arrived before it was
        sent. `link` says how datagrams are taken from an interface, None: by sockets. `errors` and `notes` are lists of
        text, as the properties of these names.
        """
        workers = self._engine.received()
        total = {name: sum(worker[name] for worker in workers) for name in (*_SUMS, *_MALFORMED, "dropped", "queued")}
        malformed = {name: total[name] for name in _MALFORMED}
        return {
            "t_s": round(time.monotonic() - self._began, 3),
            **{name: total[name] for name in _SUMS},
            "malformed": malformed,
            "queue": {
                "waiting": total["queued"],
                "size": self._queue,
                "dropped": total["dropped"],
                "policy": self._full,
                "waited": sum(worker["waited"] for worker in workers),
            },
            "delay_ns": distribution(self._engine.delays()),
            "workers": workers,
            "answered": 0,
            "dropped": {**malformed, "queue_full": total["dropped"]},
            "connections": None,
            "link": None if self._link is None else self._link.described(self._engine.link),
            "errors": self.errors,
            "notes": self.notes,
        }


def _datagram(data: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of what is to be sent. Errors: UsageError where it has none, or too many."""
    if isinstance(data, np.ndarray | np.generic):
        raw = _bytes_of(data)
    else:
        try:
            raw = memoryview(data).tobytes()
        except TypeError:
            raw = _bytes_of(data)
    if not 0 < len(raw) <= _LONGEST_DATAGRAM:
        raise UsageError(f"{len(raw):,} bytes: a datagram has at least 1 and at most {_LONGEST_DATAGRAM:,}")
    return np.frombuffer(raw, np.uint8)


def _bytes_of(data: Any) -> bytes:
    """Those of an array, or of what makes one. What stands for objects in it are places in this process's memory."""
    try:
        array = np.asanyarray(data)
    except ValueError as error:
        raise UsageError(f"this {type(data).__name__} makes no array that could be sent: {error}") from error
    if array.dtype.hasobject or array.dtype.kind in "UT":
        raise UsageError(f"a datagram is made of an array of numbers or records, or of bytes; not of {_kind(data)}")
    if batches.is_masked(array):
        raise UsageError("a masked array: send array.compressed(), or array.data to send what is masked, too")
    return bytes(array.tobytes())


def _kind(data: Any) -> str:
    return f"an array of {data.dtype}" if isinstance(data, np.ndarray) else type(data).__name__


def _numbers(to: Any) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Numbers of sources. Errors: UsageError for what can be none."""
    try:
        found = np.asarray(to)
    except ValueError:
        found = np.asarray(None)
    if found.dtype != np.uint32 and found.size:
        whole = found.dtype.kind in "ui"
        if not whole or int(found.min()) < 0 or int(found.max()) > _HIGHEST_NUMBER:
            raise UsageError(f"to={to!r}: give numbers of senders, as batch.sender has them")
    return np.ascontiguousarray(found, np.uint32).reshape(-1)


def _switches(**switches: bool) -> list[bool]:
    return [arguments.switch(name, value) for name, value in switches.items()]


def _check_words(**given: tuple[str, Any]) -> None:
    for name, (value, words) in given.items():
        arguments.word(name, value, get_args(words))


async def _rung(loop: asyncio.AbstractEventLoop, bell: int, timeout: float) -> bool:
    """Waits until the bell is rung, at most so long; whether it was."""
    rung: asyncio.Future[None] = loop.create_future()
    loop.add_reader(bell, _settle, rung)
    try:
        done, _ = await asyncio.wait([rung], timeout=None if timeout == math.inf else timeout)
    finally:
        loop.remove_reader(bell)
    return bool(done)


def _settle(rung: asyncio.Future[None]) -> None:
    if not rung.done():
        rung.set_result(None)
