"""Sends arrays of records: `flatout.Sender`. One record, one datagram, as fast as the kernel takes them.

Method: an array's bytes are lent to the kernel where they lie, up to 64 records a call; nothing is copied here. What is
sent is what the array holds: numbers and times in it are the caller's. There is no schedule: for that there is `load`.
"""

from __future__ import annotations

import errno
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from flatout import _engine, arguments, units
from flatout.errors import GeneratorError, TargetError, UsageError
from flatout.plan import targets
from flatout.protocols import PROTOCOLS, layout_of
from flatout.scenario.target import split_targets

if TYPE_CHECKING:
    import numpy
    import numpy.typing

_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM)


class Sender:
    """Sends arrays of `dtype` (a NumPy dtype, or a format's text) to a target; close it, or use it in a `with` block.

    `flows` are the sockets that send, in turn, a group of up to 64 records each: with more than one, records of one
    sender may overtake each other on their way. `sources` are addresses or networks to send from. `gso`: whether the
    kernel cuts groups apart, which is much less work; by default where it can. Threads that share a sender take turns.
    """

    def __init__(
        self,
        target: str,
        dtype: Any = None,
        *,
        sources: Sequence[str] = (),
        flows: int | str = 1,
        gso: bool | None = None,
        endian: Literal["little", "big"] = "little",
        allow_public: bool = False,
    ) -> None:
        """Opens the flows. Errors: UsageError, TargetError for an unknown or unreachable target, GeneratorError."""
        self.layout = layout_of(dtype, endian)
        gso = None if gso is None else arguments.switch("gso", gso)
        allow_public = arguments.switch("allow_public", allow_public)
        named = arguments.texts("sources", sources)
        able = _engine.kernel()["segmentation"]
        if gso and not able:
            raise UsageError("this kernel cannot cut datagrams apart (UDP_SEGMENT, Linux 4.18): leave gso out")
        flows = units.whole("flows", flows, units.MOST_THINGS)
        endpoints = [targets.resolve(text, _port()) for text in split_targets(target)]
        for endpoint in endpoints:
            targets.guard(endpoint, allow_public)
        given = targets.sources(named, flows)
        targets.check_sources(given, endpoints)
        self._dtype: numpy.dtype[Any] = self.layout.dtype
        self._counts = {"sent": 0, "refused": 0, "dropped": 0}
        self._closed = False
        self._engine = self._open(endpoints, given, flows, able if gso is None else gso)

    def _open(
        self, endpoints: list[targets.Endpoint], sources: list[targets.Endpoint], flows: int, segmented: bool
    ) -> _engine.Sender:
        first, *others = endpoints
        size = self.layout.size
        where: dict[str, Any] = {"target": first, "others": others, "sources": sources}
        try:
            return _engine.Sender(**where, flows=flows, size=size, segmented=segmented)
        except OSError as error:
            text = error.strerror or str(error)
            if sources or error.errno not in _NO_WAY:
                raise GeneratorError(f"this host cannot open {flows:,} flows: {text}") from error
            raise TargetError(f"target {first.host} cannot be reached from here: {text}") from error

    def send(self, records: numpy.typing.NDArray[Any]) -> int:
        """Sends each record of an array as a datagram; waits while the kernel's buffer is full. Returns how many left.

        Those that did not are `dropped`: this machine's own queue was full. The array must be of the sender's dtype and
        contiguous. It is copied part by part, 256 KiB at a time, with the GIL held: what another thread writes into it
        meanwhile is in what leaves later or is not, but tears no record. On a Python without GIL other threads must
        not write into it or resize it until this returns. Errors: UsageError for another array, OSError from the
        kernel.
        """
        import numpy

        from flatout.receiver.batch import is_masked

        if self._closed:
            raise UsageError("this sender is closed")
        if not isinstance(records, numpy.ndarray) or records.dtype != self._dtype:
            found = getattr(records, "dtype", type(records).__name__)
            raise UsageError(f"this sender takes arrays of {self._dtype}, and this is {found}")
        if is_masked(records):
            raise UsageError("a masked array: pass records.compressed(), or records.data to send what is masked, too")
        if not records.flags.c_contiguous:
            raise UsageError("the array's records do not lie end to end: pass numpy.ascontiguousarray(records)")
        if not records.size:
            return 0
        return self._engine.send(records.reshape(-1).view(numpy.uint8))

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """What arrays must be of."""
        return self._dtype

    @property
    def sent(self) -> int:
        """Records that have left."""
        return self._collected()["sent"]

    @property
    def refused(self) -> int:
        """Refusals that came back: the port is closed. With `gso` records of one call may be refused as one."""
        return self._collected()["refused"]

    @property
    def dropped(self) -> int:
        """Records that this machine's own queue dropped."""
        return self._collected()["dropped"]

    def _collected(self) -> dict[str, int]:
        return self._counts if self._closed else self._engine.counts()

    def close(self) -> None:
        """Closes the flows; the counters stay."""
        if not self._closed:
            self._counts, self._closed = self._engine.counts(), True
            self._engine.close()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: types.TracebackType | None
    ) -> None:
        self.close()


def _port() -> int:
    """The usual port of what goes one way."""
    return next(protocol.port for protocol in PROTOCOLS.values() if protocol.one_way is not None)
