"""A stranger's plain nn.Module, with no taps and no names of ours, is analysed like any other."""

import sys
from pathlib import Path

import pytest
import torch
from handmade import FAST, PHOTODIGITS, run, write_manifest
from safetensors.torch import save_file

from kdprobe.analysis import plan
from kdprobe.api import analyze
from kdprobe.request import Request
from kdprobe.study import load_study

CODE = """
from torch import nn


def make(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16 * 16, num_classes),
    )
"""
SHAPES = {"0.weight": (6, 3, 3, 3), "0.bias": (6,), "3.weight": (10, 1536), "3.bias": (10,)}
NETWORK = {"factory": "nets_of_mine:make", "num_classes": 10}
RUNS = [
    run("t", "teacher") | {"network": NETWORK},
    run("b", "baseline", seed=0) | {"network": NETWORK},
    run("s", seed=0) | {"network": NETWORK},
]
WITHOUT = {"forgetting", "trajectory", "basins", "concept_vectors"}  # two epochs, two learners


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nets_of_mine.py").write_text(CODE)
    sys.modules.pop("nets_of_mine", None)
    chance = torch.Generator().manual_seed(0)
    for name in ("t", "b", "s"):
        (tmp_path / name).mkdir()
        for epoch in (0, 1):
            tensors = {k: torch.randn(shape, generator=chance) for k, shape in SHAPES.items()}
            save_file(tensors, tmp_path / name / f"epoch-{epoch}.safetensors")
    write_manifest(tmp_path, RUNS, name="foreign", data=PHOTODIGITS)
    return tmp_path


def analysed(folder: Path, **more):
    choices = {"images": 4, "settings": FAST, "allow_code": ["nets_of_mine"], "report": False}
    return analyze(folder, out=folder / "out", **choices, **more)


def test_all_that_two_epochs_of_two_learners_allow_is_measured_at_its_logits(foreign):
    results = analysed(foreign)
    reasons = {one.key: one.reason for one in results.metrics if one.status != "measured"}
    assert set(reasons) == WITHOUT
    assert all(reason.startswith("needs ") for reason in reasons.values())
    assert results.metric("concepts").values["layers"] == ["logits"]
    assert {verdict.outcome for verdict in results.verdicts} == {"undecided"}


def test_module_paths_are_layers_everywhere(foreign):
    results = analysed(foreign, layers=["1", "3"])
    assert results.metric("concepts").values["layers"] == ["1", "3"]
    cka = results.metric("cka").values
    assert cka["teacher_layers"] == ["logits", "1", "3"]
    assert len(cka["runs"]["s"]["cka"]) == 3


def test_changed_code_is_looked_at_again(foreign):
    request = Request(settings=FAST, allowed=frozenset({"nets_of_mine"}))
    keys = []
    for code in (CODE, CODE.replace("ReLU", "Tanh")):
        (foreign / "nets_of_mine.py").write_text(code)
        sys.modules.pop("nets_of_mine", None)
        planned = plan(load_study(foreign), request, foreign / "store")
        keys.append({task.key for task in planned.tasks.values()})
    assert len(keys[0]) == len(keys[1])
    assert keys[0].isdisjoint(keys[1])


def test_the_command_that_is_written_down_is_a_command(foreign):
    from kdprobe.cli import cli

    results = analysed(foreign, layers=["1", "logits"], metrics=["cka", "concepts"])
    command = results.provenance["command"]
    assert command.startswith("kdprobe analyze STUDY --metrics cka,concepts --layers 1,logits ")
    import shlex

    words = shlex.split(command.replace("STUDY", str(foreign)))[2:]
    again = cli.commands["analyze"].make_context("analyze", [*words, "--dry-run"])
    assert again.params["images"] == 4
    assert "discarding.grid=8" in again.params["changes"]
