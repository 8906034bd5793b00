"""Every way of stepping, by two processes under torchrun as by one that sees the whole batch.

The losses, the records and resuming by two are in test_processes.py.
"""

import os
import subprocess
import sys

import pytest
import torch
from toystudy import RESNET, VIT, arm, far, files, lines, recipe, record, trained, weights

from kdprobe.train.processes import Processes

SCRIPT = """
import sys
from pathlib import Path
from kdprobe.train.loop import train
from kdprobe.train.recipe import Recipe
left = [int(sys.argv[3])]
def step(event):
    left[0] -= 1
    if left[0] == 0:
        raise KeyboardInterrupt
train(Recipe.model_validate_json(Path(sys.argv[1]).read_text()), out=sys.argv[2], progress=step)
"""
PATIENCE = 240  # seconds, of a machine that is busy with other things
TEACHER = {"name": "vit_3_8", "arguments": {"patch": 8}}

ARMS = {
    "thawed": arm(
        model=VIT,
        stages=[
            {"epochs": 1, "loss": "cross_entropy", "freeze": ["embedding", "stage1"]},
            {"epochs": 2, "loss": "cross_entropy + kd(T=4)"},
        ],
    ),
    "late": arm("cross_entropy@after(epoch=1)", model=VIT),
    "base": arm("cross_entropy", role="baseline", model=VIT),
}
RUNS = ("teacher", *(f"{name}-seed0" for name in ARMS))
HOW = [
    "optimizer.epochs=3",
    "optimizer.batch_size=9",
    "optimizer.accumulate=2",  # of 39 images the last step has 3: two in parts, and one alone
    "optimizer.ema=0.8",
    "optimizer.clip=0.5",
    "data.arguments={train = 43, test = 8}",
    "data.augment=['flip', 'mixup(alpha=0.4)', 'cutout(size=6)']",
    "data.corrupt=['label_noise(rate=0.3)']",
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), ARMS, *HOW, teacher=TEACHER)


def by_two(home, wanted, name, kill=0):
    """The exit code of training into `home / name`; all are interrupted at the `kill`-th step."""
    (home / "toy.json").write_text(wanted.model_dump_json())
    (home / "toy.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", home / "toy.py", home / "toy.json", home / name, kill]
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    ).returncode


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    home = tmp_path_factory.mktemp("two")
    assert by_two(home, recipe(ARMS, *HOW, teacher=TEACHER), "study") == 0
    return home / "study"


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_parts_averages_clipping_and_mixed_images_end_the_same(alone, two, run):
    for epoch in range(4):
        apart = far(weights(alone, run, epoch), weights(two, run, epoch))
        assert apart < 2e-5, (run, epoch)


@pytest.mark.slow
def test_what_was_frozen_at_first_learns_from_all_images_later(alone, two):
    frozen, thawed = (weights(two, "thawed-seed0", epoch) for epoch in (1, 3))
    start = weights(two, "thawed-seed0", 0)
    inside = [key for key in start if key.startswith("stage1.")]
    assert all(bool((start[key] == frozen[key]).all()) for key in inside)
    assert far(*({key: part[key] for key in inside} for part in (frozen, thawed))) > 1e-4


@pytest.mark.slow
def test_a_term_whose_time_has_not_come_holds_nobody_up(two):
    first, second = lines(two, "late-seed0")[1:3]
    assert first["train_loss"] == first["gradient_norm"] == 0
    assert second["train_loss"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_they_note_and_choose_the_same(alone, two, run):
    for ours, theirs in zip(lines(two, run), lines(alone, run), strict=True):
        assert ours.keys() == theirs.keys()
        for key in ("train_loss", "gradient_norm", "validation_loss", "test_loss", "memorised"):
            if theirs.get(key) is not None:
                assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-6), key
    ours, theirs = (record(folder, run)["reported"] for folder in (two, alone))
    assert ours["best_validation"]["epoch"] == theirs["best_validation"]["epoch"]


@pytest.mark.slow
def test_interrupted_amid_memories_and_frozen_statistics_they_go_on_to_the_same_bits(tmp_path):
    """Each process has its own within an epoch; going on, all begin with those of the first."""
    stages = [
        {"epochs": 1, "loss": "cross_entropy"},
        {"epochs": 2, "loss": "cross_entropy", "freeze": ["bn1", "layer1"]},
    ]
    arms = {
        "bank": arm("cross_entropy + crd(dim=4)"),
        "still": arm(stages=stages),
        "pruned": arm("cross_entropy", techniques=["prune(amount=0.5, start=0, end=3)"]),
    }
    wanted = recipe(arms, "optimizer.epochs=3", teacher=RESNET)
    assert by_two(tmp_path, wanted, "whole") == 0
    assert by_two(tmp_path, wanted, "killed", kill=14) != 0
    assert (tmp_path / "killed" / "state").exists()
    assert by_two(tmp_path, wanted, "killed") == 0
    ours, theirs = files(tmp_path / "killed"), files(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_alone_nothing_is_taken_from_anybody():
    value = torch.tensor([1.0, 2.0])
    Processes().take_first([value])
    assert value.tolist() == [1, 2]
