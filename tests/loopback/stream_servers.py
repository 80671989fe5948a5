"""Servers over TCP that behave badly, each in one way, and count what they saw: a thread for each connection.

Also the one way in which tests load them: bounded in time, and with an account that closes.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import accounts
import flatout

HEADER = 12
# A message's longest length over TCP.
LONGEST = 65_535


class Talk:
    """One connection, as a bad server sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._unread = b""

    def query(self) -> bytes | None:
        """The next whole query without its prefix; None once the client has ended. Errors: TimeoutError."""
        while True:
            if len(self._unread) >= 2:
                end = 2 + int.from_bytes(self._unread[:2])
                if len(self._unread) >= end:
                    query, self._unread = self._unread[2:end], self._unread[end:]
                    return query
            more = self.connection.recv(1 << 16)
            if not more:
                return None
            self._unread += more

    def send(self, data: bytes) -> None:
        """All of it."""
        self.connection.sendall(data)


Behaviour = Callable[[Talk, "BadServer"], None]


class BadServer:
    """Listens on loopback and treats each connection as `behave` says, until the block ends."""

    def __init__(self, behave: Behaviour, receive_buffer: int | None = None) -> None:
        self.behave = behave
        self.accepted = self.queries = self.answers = 0
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(512)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def count(self, queries: int = 0, answers: int = 0) -> None:
        """Notes what a behaviour has seen and done."""
        with self._lock:
            self.queries += queries
            self.answers += answers

    def __enter__(self) -> BadServer:
        """Begins to accept."""
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all connections and threads."""
        # Closing alone does not wake a thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a bad server's thread hangs"

    def _begin(self, what: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self._connections.append(connection)
            self._begin(self._talk, connection)

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError, BrokenPipeError, OSError):
            self.behave(Talk(connection), self)


# --- Right answers ---


def answer(query: bytes, length: int = 0) -> bytes:
    """A right answer with its prefix: one record, as long as makes the message `length` bytes."""
    record = b"\xc0\x0c" + struct.pack("!HHI", 0xFF00, 1, 60)
    data = bytes(max(length - len(query) - len(record) - 2, 0))
    header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    message = header + query[HEADER:] + record + struct.pack("!H", len(data)) + data
    return struct.pack("!H", len(message)) + message


# --- Behaviours ---


def _with_each(reply: Callable[[bytes], bytes]) -> Behaviour:
    """Sends what `reply` makes of each query."""

    def behave(talk: Talk, server: BadServer) -> None:
        while (query := talk.query()) is not None:
            server.count(queries=1, answers=1)
            talk.send(reply(query))

    return behave


honest = _with_each(answer)
twice = _with_each(lambda query: answer(query) * 2)
longest = _with_each(lambda query: answer(query, LONGEST))
# A message by its prefix, but none of DNS.
garbage = _with_each(lambda query: b"\x00\x40" + query[:2] + b"\xa5" * 62)
# Another protocol: what it says is taken for the prefix of a long message that never ends.
web = _with_each(lambda _: b"HTTP/1.1 400 Bad Request\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
another_id = _with_each(lambda query: answer(bytes((query[0] ^ 0x80, query[1])) + query[2:]))
empty_prefix = _with_each(lambda _: b"\x00\x00")
short_prefix = _with_each(lambda query: b"\x00\x05" + query[:5])
# The end of each answer is missing, so that the next one begins within it.
long_prefix = _with_each(lambda query: struct.pack("!H", LONGEST) + answer(query)[2:])


def single_bytes(talk: Talk, server: BadServer) -> None:
    """Every byte of every answer on its own."""
    while (query := talk.query()) is not None:
        server.count(queries=1, answers=1)
        for byte in answer(query):
            talk.send(bytes((byte,)))


def out_of_order(talk: Talk, server: BadServer) -> None:
    """Four queries at a time, the last one answered first."""
    waiting: list[bytes] = []
    talk.connection.settimeout(0.05)
    while True:
        try:
            query = talk.query()
        except TimeoutError:
            query = b""
        if query is None:
            return
        if query:
            server.count(queries=1)
            waiting.append(query)
        if not query or len(waiting) == 4:
            talk.send(b"".join(map(answer, reversed(waiting))))
            server.count(answers=len(waiting))
            waiting.clear()


def closing_after(queries: int) -> Behaviour:
    """Answers so many and ends the connection in order."""

    def behave(talk: Talk, server: BadServer) -> None:
        for _ in range(queries):
            query = talk.query()
            if query is None:
                return
            server.count(queries=1, answers=1)
            talk.send(answer(query))
        talk.connection.shutdown(socket.SHUT_WR)
        while talk.query() is not None:
            server.count(queries=1)

    return behave


def silent(talk: Talk, server: BadServer) -> None:
    """Reads all and says nothing."""
    while talk.query() is not None:
        server.count(queries=1)


def resetting(talk: Talk, _server: BadServer) -> None:
    """Cuts each connection off as soon as it stands."""
    reset(talk.connection)


def resetting_within(talk: Talk, server: BadServer) -> None:
    """Answers one query, sends half an answer to the next, and cuts off."""
    for end in (None, 9):
        query = talk.query()
        if query is None:
            return
        server.count(queries=1)
        talk.send(answer(query)[:end])
    reset(talk.connection)


def not_reading(talk: Talk, _server: BadServer) -> None:
    """Takes nothing from the kernel until the client ends."""
    talk.connection.settimeout(60)
    while talk.connection.recv(1, socket.MSG_PEEK):
        if _over(talk.connection):
            return


def _over(connection: socket.socket) -> bool:
    """Waits until the far end is gone: data that nobody reads hides its end from `recv`."""
    import select

    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(60_000))


def reset(connection: socket.socket) -> None:
    """Ends a connection by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# --- Loading them ---


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails what takes longer."""

    def ring(*_: object) -> None:
        raise AssertionError(f"still not over after {seconds} s")

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, ring)
    outer_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer_s:
            # The time limit around this one, such as pytest-timeout's, goes on.
            signal.setitimer(signal.ITIMER_REAL, max(outer_s - (time.monotonic() - began), 0.001))


def load(server: BadServer, protocol: str = "dns", **options: Any) -> flatout.LoadResult:
    """A third of a second at a modest rate over ten connections, unless told otherwise; the account closes."""
    usual: Any = {"rate": 400, "duration": 0.3, "warmup": 0, "timeout": 0.3, "connections": 10, "connect_rate": 2000}
    with within(60):
        run = flatout.load(protocol, server.address, **{**usual, "transport": "tcp", **options})
    accounts.check(run)
    return run
