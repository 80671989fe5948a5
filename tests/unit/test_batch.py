"""A batch: exactly its dtype, what stands beside it, and what no longer does once it was made into something else."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import flatout
from flatout.receiver import batch as batches

DTYPE = np.dtype([("id", "<u4"), ("x", "<f4")])


@pytest.fixture
def batch() -> flatout.Batch:
    raw = np.frombuffer(bytearray(range(32)), np.uint8)
    return batches.of(raw, DTYPE, np.arange(4, dtype="u8"), np.arange(4, dtype="u4") * 10, 3)


def test_it_is_an_array_of_exactly_its_dtype_without_a_copy(batch: flatout.Batch) -> None:
    assert isinstance(batch, np.ndarray)
    assert batch.dtype == DTYPE
    assert (len(batch), batch["id"][1]) == (4, 0x0B0A0908)
    assert batch.flags.writeable
    assert not batch.flags.owndata, "a view of what the engine handed over"


def test_what_came_with_it_stands_beside_it(batch: flatout.Batch) -> None:
    assert batch.arrived_ns.tolist() == [0, 1, 2, 3]
    assert batch.sender.tolist() == [0, 10, 20, 30]
    assert batch.worker == 3
    assert batch.sender[batch["id"] == 0x0B0A0908].tolist() == [10]


@pytest.mark.parametrize(
    "made",
    [
        lambda batch: batch[1:],
        lambda batch: batch[batch["id"] > 9],
        lambda batch: batch.copy(),
        copy.copy,
        copy.deepcopy,
        lambda batch: pickle.loads(pickle.dumps(batch)),
        lambda batch: batch["x"],
        lambda batch: batch["x"] + 1,
        lambda batch: batch.view(flatout.Batch),
        lambda batch: np.concatenate([batch, batch]).view(flatout.Batch),
    ],
)
def test_what_is_made_of_it_says_that_it_is_no_batch(batch: flatout.Batch, made: object) -> None:
    assert callable(made)
    other = made(batch)
    for name in ("arrived_ns", "sender", "worker"):
        with pytest.raises(AttributeError, match=f"'{name}' belongs to a batch as it was handed over"):
            getattr(other, name)
    assert batch.sender.tolist() == [0, 10, 20, 30], "the batch itself still has it"


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.sort(),
        lambda batch: batch.sort(order="x"),
        lambda batch: batch.sort(axis=-1, kind="stable"),
        lambda batch: batch["id"].view(np.ndarray).sort() or batch.sort(),
        lambda batch: batch.partition(2),
        lambda batch: setattr(batch, "shape", (2, 2)),
        lambda batch: setattr(batch, "dtype", "u4"),
    ],
)
def test_what_was_reordered_in_place_says_so(batch: flatout.Batch, change: object) -> None:
    assert callable(change)
    batch[:] = batch[::-1].copy()
    change(batch)
    for name in ("arrived_ns", "sender", "worker"):
        with pytest.raises(AttributeError, match=f"'{name}' .* was changed in place"):
            getattr(batch, name)


def test_sorting_sorts_and_a_copy_is_no_batch(batch: flatout.Batch) -> None:
    batch[:] = batch[::-1].copy()
    ids = batch["id"].tolist()
    for made in (np.sort(batch, order="id"), batch[np.argsort(batch, order="id")]):
        assert made["id"].tolist() == sorted(ids)
    assert (batch["id"].tolist(), batch.sender.tolist()) == (ids, [0, 10, 20, 30]), "it is as it was"
    with pytest.raises(ValueError, match="unknown field"):
        batch.sort(order="nothing")
    assert len(batch.sender) == 4
    batch.sort(order="id")
    assert batch["id"].tolist() == sorted(ids)


def test_what_moves_no_record_leaves_a_batch_as_it_is(batch: flatout.Batch) -> None:
    batch.byteswap(inplace=True)
    batch["x"] = 0
    with pytest.raises(ValueError, match=r"own(s its own| its) data"):
        batch.resize(2)
    assert batch.sender.tolist() == [0, 10, 20, 30]
