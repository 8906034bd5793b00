"""A study trained once for all tests, small enough for seconds."""

from pathlib import Path

import pytest
import torch

TINY = ("data.arguments={train = 32, test = 48}", "optimizer.batch_size=16")


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
