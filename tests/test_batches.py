"""Batches are halved when memory runs out, and no row is lost or seen twice."""

import logging

import pytest
import torch
from torch import nn

from kdprobe.batches import CPU_BUDGET, CPU_ROWS, in_batches, rows_that_fit
from kdprobe.errors import InputError

OUT = torch.OutOfMemoryError("CUDA out of memory")


def small_memory(fits: int, error: Exception = OUT):
    """Work that gives its rows back, and fails on more than `fits` at once."""

    def work(rows: slice) -> list[int]:
        if rows.stop - rows.start > fits:
            raise error
        return list(range(rows.start, rows.stop))

    return work


def joined(parts: list[list[int]]) -> list[int]:
    return [row for part in parts for row in part]


@pytest.mark.parametrize(("total", "size"), [(10, 3), (9, 3), (1, 8), (0, 4), (7, 1)])
def test_every_row_once_in_order(total, size):
    parts = in_batches(small_memory(size), total, size)
    assert joined(parts) == list(range(total))
    assert all(len(part) == size for part in parts[:-1])


@pytest.mark.parametrize("fits", [1, 3, 5, 8])
def test_batches_are_halved_until_they_fit(fits, caplog):
    with caplog.at_level(logging.WARNING, "kdprobe"):
        parts = in_batches(small_memory(fits), 21, 16)
    assert joined(parts) == list(range(21))
    sizes = [size for size in (8, 4, 2, 1) if size * 2 > fits]
    told = [f"out of memory: going on with batches of {size}" for size in sizes]
    assert [record.getMessage() for record in caplog.records] == told
    assert max(map(len, parts)) == sizes[-1]


def test_memory_that_runs_out_in_the_middle(caplog):
    calls = []

    def work(rows: slice) -> list[int]:
        calls.append(rows)
        if len(calls) == 3:
            raise OUT
        return list(range(rows.start, rows.stop))

    assert joined(in_batches(work, 12, 4)) == list(range(12))
    assert [rows.start for rows in calls] == [0, 4, 8, 8, 10]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("cuDNN error: out of memory"),
    ],
)
def test_all_ways_of_running_out(error):
    assert joined(in_batches(small_memory(2, error), 5, 4)) == list(range(5))


def test_other_errors_and_single_rows_are_raised():
    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(small_memory(2, RuntimeError("shapes differ")), 5, 4)
    with pytest.raises(InputError, match="too little memory for one image"):
        in_batches(small_memory(0), 5, 4)


def test_wide_outputs_make_small_batches_and_hooks_come_off():
    image = torch.zeros(1, 3, 8, 8)
    narrow, wide = (nn.Conv2d(3, width, 1, bias=False) for width in (2, 65536))
    assert rows_that_fit(narrow, image) == CPU_ROWS
    assert rows_that_fit(nn.Sequential(wide), image) == CPU_BUDGET // (65536 * 64 * 4)
    assert not wide._forward_hooks
    assert not narrow._forward_hooks


def test_a_batch_holds_at_least_one_row(monkeypatch):
    monkeypatch.setattr("kdprobe.batches.CPU_BUDGET", 10)
    assert rows_that_fit(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8)) == 1


def test_hooks_come_off_when_the_network_fails():
    layer = nn.Conv2d(3, 2, 1)
    with pytest.raises(RuntimeError):
        rows_that_fit(nn.Sequential(layer, nn.Linear(99, 2)), torch.zeros(1, 3, 8, 8))
    assert not layer._forward_hooks
