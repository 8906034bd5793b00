"""Paths of weights that were moved by hand, and the laws of a path."""

import json
from pathlib import Path

import pytest
import torch
from handmade import NETWORK, fresh
from safetensors.torch import save_file
from torch import nn

from kdprobe.errors import InputError
from kdprobe.manifest import DataEntry, NetworkEntry
from kdprobe.models.contract import FAMILIES, family
from kdprobe.probes.lens import Lens
from kdprobe.probes.weights import weights
from kdprobe.study import Checkpoint, load_study
from kdprobe.taps import Tap

LENS = Lens(torch.device("cpu"), DataEntry(name="digits"), count=1, seed=0)
MOVES = (0.0, 3.0, -1.0, 2.0)  # of every weight of the last layer, checkpoint to checkpoint


def moved(folder: Path, recorded: list[dict[str, float]] | None = None) -> list[Checkpoint]:
    """Checkpoints in which only the last layer moves, by MOVES; the first is all ones."""
    tensors = {k: torch.ones_like(v) if v.is_floating_point() else v for k, v in fresh(0).items()}
    found = []
    for epoch, move in enumerate(MOVES):
        for name in ("fc.weight", "fc.bias"):
            tensors[name] = tensors[name] + move
        file = folder / f"epoch-{epoch}.safetensors"
        note = None if recorded is None else {"path_length": json.dumps(recorded[epoch])}
        save_file(tensors, file, metadata=note)
        found.append(Checkpoint("run", epoch, file, NetworkEntry(**NETWORK)))
    return found


def test_a_path_is_the_sum_of_its_steps(tmp_path):
    seen = weights(moved(tmp_path), LENS, layers=("logits", "stage3"))
    size = (8 * 10 + 10) ** 0.5  # root of the number of weights of the last layer
    wanted = torch.tensor([0.0, 3.0, 4.0, 6.0]).double() * size
    torch.testing.assert_close(seen["moved/logits"], wanted)
    torch.testing.assert_close(seen["moved/"], wanted)
    assert seen["moved/stage3"].eq(0).all()
    assert float(seen["start/logits"]) == pytest.approx(size)
    network = dict(fresh(0))
    floats = [v for k, v in network.items() if "running" not in k and v.is_floating_point()]
    assert float(seen["start/"]) == pytest.approx(sum(v.numel() for v in floats) ** 0.5)
    assert not any(name.startswith("stepped") for name in seen)


def test_steps_are_those_that_the_trainer_recorded(tmp_path):
    recorded = [{"": 10.0 * k, "fc": 7.0 * k} for k in range(4)]
    seen = weights(moved(tmp_path, recorded), LENS, layers=("logits", "stage3"))
    assert seen["stepped/logits"].tolist() == [0.0, 7.0, 14.0, 21.0]
    assert seen["stepped/"].tolist() == [0.0, 10.0, 20.0, 30.0]
    assert "stepped/stage3" not in seen


def test_steps_that_were_not_recorded_everywhere_are_left_out(tmp_path):
    recorded = [{"": 0.0}, {"": 1.0, "fc": 1.0}, {"": 2.0}, {"": 3.0}]
    seen = weights(moved(tmp_path, recorded), LENS, layers=("logits",))
    assert "stepped/logits" not in seen
    assert "stepped/" in seen


def test_a_path_is_longer_the_finer_it_is_looked_at(tiny_study):
    run = load_study(tiny_study).students[0]
    layers = ("stage1", "stage3", "logits")
    seen = weights(run.checkpoints, LENS, layers=layers)
    ends = weights((run.checkpoints[0], run.last), LENS, layers=layers)
    for layer in ("", *layers):
        straight, path = ends[f"moved/{layer}"], seen[f"moved/{layer}"]
        steps = seen[f"stepped/{layer}"]
        rounding = float(seen[f"start/{layer}"]) * 2.0**-11 * len(path)  # files of half precision
        assert 0 < float(straight[-1]) <= float(path[-1]) * (1 + 1e-9)
        assert float(path[-1]) <= float(steps[-1]) + rounding
        assert path.diff().gt(0).all()
        assert steps.diff().gt(0).all()
    for part in ("moved", "stepped"):
        assert all(float(seen[f"{part}/{n}"][-1]) <= float(seen[f"{part}/"][-1]) for n in layers)


def test_a_tap_without_weights_behind_it_is_refused(tmp_path):
    @family("hollow", pattern="hollow", summary="for this test", examples=("hollow",))
    def hollow(*, num_classes: int) -> nn.Module:
        body = nn.Sequential(nn.Linear(2, num_classes), nn.ReLU())
        body.taps = {"act": Tap("1", "post", "1")}
        return body

    try:
        file = tmp_path / "epoch-0.safetensors"
        save_file({"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2)}, file)
        one = Checkpoint("x", 0, file, NetworkEntry(name="hollow", num_classes=2))
        with pytest.raises(InputError, match="layer 'act' has no weights under '1'; choose"):
            weights([one], LENS, layers=("act",))
    finally:
        del FAMILIES._entries["hollow"]
