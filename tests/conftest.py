"""What many tests share: a study of toy size trained once, and a browser."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import chromium

TINY = ("data.arguments={train = 32, test = 48}", "optimizer.batch_size=16")


def pytest_configure(config: pytest.Config) -> None:
    """What is of toy size is fastest on one thread, commands too; benches take all there are."""
    if config.getoption("markexpr") != "bench":
        os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests start
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and for seeds 0 and 1 a baseline, kd and feature; checkpoints 0, 1, 2 each.

    Read it, never write into it.
    """
    from kdprobe.train.loop import train

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train("tiny", out=tmp_path_factory.mktemp("tiny") / "study", overrides=TINY)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium for all tests of a file; see `browsing.py`."""
    with chromium() as found:
        yield found
