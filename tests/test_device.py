"""A device's name becomes a device that is there, or a sentence."""

import pytest
import torch

from kdprobe.device import choose_device, repeatable
from kdprobe.errors import UsageError


def gpus(monkeypatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("count", "name", "device"),
    [
        (0, "auto", "cpu"),
        (1, "auto", "cuda"),
        (1, "cpu", "cpu"),
        (1, "cuda", "cuda"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_devices_that_are_there(monkeypatch, count, name, device):
    gpus(monkeypatch, count)
    assert choose_device(name) == torch.device(device)


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (1, "cuda:1"), (2, "cuda:7")])
def test_devices_that_are_not_there(monkeypatch, count, name):
    gpus(monkeypatch, count)
    with pytest.raises(UsageError, match=f"'{name}', but torch sees {count} GPUs here; use 'auto'"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "CPU"])
def test_names_that_are_none(name):
    with pytest.raises(UsageError, match=f"found device '{name}'; wanted 'auto', 'cpu', 'cuda' or"):
        choose_device(name)


def test_inside_a_gpu_repeats_itself_and_afterwards_all_is_as_before():
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    with repeatable():
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == before
