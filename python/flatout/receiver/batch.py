"""Messages as they cross into Python: an array of exactly the wanted dtype, and beside it what came with each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    Rows = np.ndarray[tuple[int], np.dtype[Any]]
    Numbers = np.ndarray[tuple[int], np.dtype[Any]]
else:
    Rows = np.ndarray


class _Beside(NamedTuple):
    """What stands beside a batch, record for record."""

    arrived_ns: Numbers
    sender: Numbers
    worker: int


class Batch(Rows):
    """Records in the order in which one worker took them in. The memory is the batch's own, for as long as it lives.

    `arrived_ns` and `sender` belong to the batch as it was handed over. What is made of it (a slice, a copy, a result)
    is an array without them, for they would not fit: index them alike, as in `batch.sender[batch["id"] == 7]`. Nor has
    it them any more once it was sorted in place.
    """

    _beside: _Beside | None = None
    _reordered = False

    @property
    def arrived_ns(self) -> Numbers:
        """When each record arrived, Unix time in ns."""
        return self._what_is_beside("arrived_ns").arrived_ns

    @property
    def sender(self) -> Numbers:
        """The number of the address that each record came from: `Receiver.source` tells the address."""
        return self._what_is_beside("sender").sender

    @property
    def worker(self) -> int:
        """The thread that received these records."""
        return self._what_is_beside("worker").worker

    def sort(self, *arguments: Any, **options: Any) -> None:
        """Sorts in place, as arrays do; nothing stands beside the records any more."""
        super().sort(*arguments, **options)
        self._reordered = True

    def partition(self, *arguments: Any, **options: Any) -> None:
        """Partitions in place, as arrays do; nothing stands beside the records any more."""
        super().partition(*arguments, **options)
        self._reordered = True

    def _what_is_beside(self, name: str) -> _Beside:
        if self._reordered or (self._beside is not None and self.shape != self._beside.sender.shape):
            raise AttributeError(
                f"'{name}' belongs to a batch as it was handed over, and this one was changed in place: sort copies, "
                'as in order = batch.argsort(order="id"); batch[order], batch.sender[order]'
            )
        if self._beside is None:
            raise AttributeError(
                f"'{name}' belongs to a batch as it was handed over, and this array was made of one: "
                f"keep the batch and index batch.{name} alike"
            )
        return self._beside


def of(raw: Numbers, dtype: np.dtype[Any], arrived_ns: Numbers, sender: Numbers, worker: int) -> Batch:
    """A batch of the bytes `raw`; nothing is copied."""
    batch: Batch = raw.view(dtype, type=Batch)
    batch._beside = _Beside(arrived_ns, sender, worker)
    return batch


def is_masked(array: Any) -> bool:
    """Whether some of its values may not count: its bytes would be sent all the same."""
    return type(array) not in (np.ndarray, Batch) and isinstance(array, np.ma.MaskedArray)
