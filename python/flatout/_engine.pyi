"""The native engine. Private: `flatout` is its face. Checked against the binary by stubtest."""

import ipaddress
import os
from typing import Any, final

import numpy as np

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Words = dict[str, int]
_Array = np.ndarray[Any, Any]

def protocols() -> list[str]: ...
def kernel() -> dict[str, bool]: ...
def raise_descriptor_limit() -> int: ...
def arrived(target: tuple[_Address, int, int], anew: bool, timeout_s: float) -> _Words | None: ...

@final
class Histogram:
    def __new__(cls) -> Histogram: ...
    @staticmethod
    def decode(encoded: bytes) -> Histogram: ...
    def encode(self) -> bytes: ...
    def record(self, ns: int) -> None: ...
    def add(self, other: Histogram) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def min(self) -> int: ...
    @property
    def max(self) -> int: ...
    @property
    def mean(self) -> float: ...
    def quantile(self, quantile: float) -> int: ...
    def count_above(self, ns: int) -> int: ...

@final
class LoadRun:
    def __new__(
        cls,
        *,
        protocol: str,
        knobs: list[tuple[str, int]],
        target: tuple[_Address, int, int],
        others: list[tuple[_Address, int, int]],
        senders: int,
        spread: float,
        link: str,
        sources: list[_Address],
        flows: int,
        lines: list[str],
        queries: str | os.PathLike[str] | None,
        connect_per_s: float,
        connect_timeout_ns: int,
        churn: int,
        hold: int,
        reconnect: bool,
        io: str,
        tls: tuple[str, bool, str | None, bool] | None,
        node: tuple[int, int],
        start_at_unix_ns: int | None,
        profile: list[tuple[float, float, float]],
        warmup_ns: int,
        timeout_ns: int,
        poisson: bool,
        seed: int,
        workers: int,
        cpus: list[int],
        stamps: bool,
        segmented: bool,
        log: str | os.PathLike[str] | None,
        log_format: str,
    ) -> LoadRun: ...
    def wait(self, seconds: float) -> bool: ...
    def stop(self) -> None: ...
    def counts(self) -> _Words: ...
    def unsent_because(self) -> _Words: ...
    def tallies(self) -> _Words: ...
    def intervals(self, first: int) -> list[tuple[int, _Words, int | None, int | None, int | None]]: ...
    def distributions(self) -> tuple[Histogram, Histogram, Histogram, Histogram]: ...
    def connections(self) -> _Words: ...
    @property
    def carrier(self) -> str: ...
    @property
    def elapsed_ns(self) -> int | None: ...
    @property
    def started_unix_ns(self) -> int: ...
    @property
    def slot_bytes(self) -> int: ...
    @property
    def failures(self) -> list[str]: ...

@final
class Receiver:
    def __new__(
        cls,
        *,
        protocol: str,
        knobs: list[tuple[str, int]],
        listen: tuple[_Address, int, int],
        workers: int,
        shared: bool,
        cpus: list[int],
        coalesced: bool,
        stamps: bool,
        buffer: int,
        queue: int,
        when_full: str,
        followed: int,
        tells: bool,
    ) -> Receiver: ...
    @property
    def address(self) -> tuple[_Address, int]: ...
    @property
    def alive(self) -> bool: ...
    @property
    def size(self) -> int: ...
    def take(self, most: int, wait_s: float, linger_s: float) -> tuple[_Array, _Array, _Array, int] | None: ...
    def fileno(self) -> int: ...
    def arm(self) -> bool: ...
    def drain(self) -> None: ...
    def source(self, number: int) -> tuple[_Address, int] | None: ...
    def send(self, data: _Array, to: _Array) -> int: ...
    def received(self) -> list[_Words]: ...
    def delays(self) -> Histogram: ...
    def stop(self) -> None: ...

@final
class Sender:
    def __new__(
        cls,
        *,
        target: tuple[_Address, int, int],
        others: list[tuple[_Address, int, int]],
        sources: list[_Address],
        flows: int,
        size: int,
        segmented: bool,
    ) -> Sender: ...
    def send(self, data: _Array) -> int: ...
    def counts(self) -> _Words: ...
    def close(self) -> None: ...

@final
class Server:
    def __new__(
        cls,
        *,
        protocol: str,
        knobs: list[tuple[str, int]],
        listen: tuple[_Address, int, int],
        links: list[str],
        entries: list[tuple[bytes, bytes]],
        io: str,
        connections: int,
        workers: int,
        cpus: list[int],
    ) -> Server: ...
    @property
    def carrier(self) -> str: ...
    @property
    def capacity(self) -> int: ...
    @property
    def connection_bytes(self) -> int: ...
    @property
    def address(self) -> tuple[_Address, int]: ...
    @property
    def alive(self) -> bool: ...
    def served(self) -> list[_Words]: ...
    def dropped(self) -> _Words: ...
    def stop(self) -> None: ...

@final
class FaultyServer:
    def __new__(
        cls,
        *,
        protocol: str,
        listen: tuple[_Address, int, int],
        cpus: list[int],
        drop: float,
        duplicate: float,
        corrupt: float,
        late: float,
        late_by_ns: int,
        reorder: float,
        delay_ns: int,
        jitter_ns: int,
        capacity_per_s: float,
        stall_after_ns: int,
        stall_ns: int,
        die_after: int,
        seed: int,
    ) -> FaultyServer: ...
    @property
    def address(self) -> tuple[_Address, int]: ...
    def done(self) -> _Words: ...
    def stop(self) -> None: ...
