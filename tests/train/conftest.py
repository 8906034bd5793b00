"""A study small enough to be trained many times over, on one thread so that its bits repeat."""

from pathlib import Path

import pytest
import torch

SMALL = [
    "seeds=[0]",
    "checkpoints=[0, 1, 2]",
    "data.arguments={train = 40, test = 16}",
    "optimizer.batch_size=16",
    "teacher.model.arguments={width = 3}",
    "arms.baseline.model.arguments={width = 2}",
    "arms.kd.model.arguments={width = 2}",
    "arms.feature.model.arguments={width = 2}",
    "precision=float32",
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Overrides that shrink the packaged recipe 'tiny'."""
    return SMALL


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small) -> Path:
    """The small study, trained without interruption."""
    from kdprobe.train.loop import train

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = train("tiny", out=tmp_path_factory.mktemp("whole") / "study", overrides=small)
    torch.set_num_threads(before)
    return folder
