"""Two processes under torchrun end where one does that sees the whole batch."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from toystudy import (
    RESNET,
    VIT,
    arm,
    far,
    files,
    lines,
    place,
    recipe,
    record,
    trained,
    untimed,
    weights,
)

from kdprobe.errors import InputError, UsageError
from kdprobe.train.processes import Processes, joined, own_device
from kdprobe.train.rehearsing import rehearse

SCRIPT = """
import sys
import torch
from kdprobe.train.loop import train
torch.set_num_threads(1)
steps, kill = [], int(sys.argv[3])
def step(event):
    steps.append(event)
    if len(steps) == kill:
        raise KeyboardInterrupt
train(sys.argv[1], out=sys.argv[2], progress=step)
"""
ARMS = {
    "one": arm("0.5*cross_entropy + kd(T=4)", model=VIT),
    "pair": arm("cross_entropy + dml", model=VIT, together=2),
    "hint": arm(
        model=VIT,
        stages=[
            {"epochs": 1, "loss": "fitnet(layer='stage2', regressor='conv')"},
            {"epochs": 1, "loss": "cross_entropy", "freeze": ["embedding", "stage1"]},
        ],
    ),
}
RUNS = ("teacher", "one-seed0", "pair-seed0", "pair-seed0.1", "hint-seed0")
HOW = ["data.arguments={train = 43, test = 8}", "optimizer.batch_size=8"]  # 39: 4 x 8 and a 7
TEACHER = {"name": "vit_3_8", "arguments": {"patch": 8}}
PATIENCE = 240  # seconds, of a machine that is busy with other things


def toml(wanted, path):
    """A recipe as a file, its tables inline."""
    raw = wanted.model_dump(mode="json", exclude_none=True)
    path.write_text("\n".join(f"{key} = {inline(value)}" for key, value in raw.items()))
    return path


def inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {inline(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def under_torchrun(folder, path, *, count=2, kill=0):
    script = path.with_suffix(".py")
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(count), str(script), str(path), str(folder), str(kill)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=environment, check=False
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), ARMS, *HOW, teacher=TEACHER, gradients=1)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Trained by two processes, into ``first``."""
    home = tmp_path_factory.mktemp("two")
    path = toml(recipe(ARMS, *HOW, teacher=TEACHER, gradients=1), home / "toy.toml")
    must_train(home / "first", path)
    return home


def must_train(folder, path):
    ended = under_torchrun(folder, path)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_two_processes_are_one_with_the_same_batch(alone, two):
    for run in RUNS:
        for epoch in (1, 2):
            apart = far(weights(alone, run, epoch), weights(two / "first", run, epoch))
            assert apart < 2e-5, (run, epoch)
    start = (weights(alone, "one-seed0", 0), weights(alone, "one-seed0", 2))
    assert far(*start) > 1e-2, "they have learned"


@pytest.mark.slow
def test_all_images_are_counted_in_the_numbers(alone, two):
    for run in RUNS:
        for ours, theirs in zip(lines(two / "first", run), lines(alone, run), strict=True):
            assert ours.keys() == theirs.keys()
            if not ours["epoch"]:
                continue
            for key in ("train_loss", "train_accuracy", "gradient_norm", "path_length"):
                assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-6), key
            for term, told in theirs["terms"].items():
                assert ours["terms"][term] == pytest.approx(told, rel=1e-3)


@pytest.mark.slow
def test_the_gradients_of_the_terms_are_those_of_all_images(alone, two):
    """Of half of them they would be longer or shorter by far more."""
    for run in RUNS:
        for ours, theirs in zip(lines(two / "first", run), lines(alone, run), strict=True):
            assert ("gradients" in ours) == bool(ours["epoch"])
            for term, told in theirs.get("gradients", {}).items():
                assert ours["gradients"][term] == pytest.approx(told, rel=1e-3, abs=1e-5), run


@pytest.mark.slow
def test_trained_twice_they_have_the_same_bits(two):
    must_train(two / "second", two / "toy.toml")
    assert files(two / "first") == files(two / "second")
    for run in RUNS:
        assert untimed(two / "first", run) == untimed(two / "second", run)


@pytest.mark.slow
def test_one_of_them_writes(two):
    for run in RUNS:
        assert [line["epoch"] for line in lines(two / "first", run)] == [0, 1, 2]
    assert record(two / "first")["processes"] == {
        "count": 2,
        "images_a_step_and_process": 4,
        "normalisation": "statistics of each process's own images; the first one's are saved",
        "relations": "losses that relate images see those of their process",
        "gradients": "of the terms and of the step: means over the images of all processes",
    }
    assert not (two / "first" / "state").exists()
    assert not list((two / "first").rglob("*.tmp"))


@pytest.mark.slow
def test_interrupted_they_go_on_to_the_same_bits(two):
    path, folder = two / "toy.toml", two / "killed"
    ended = under_torchrun(folder, path, kill=18)
    assert ended.returncode != 0
    assert (folder / "state").exists()
    ended = under_torchrun(folder, path)
    assert ended.returncode == 0, ended.stderr
    assert files(folder) == files(two / "first")


@pytest.mark.slow
def test_a_folder_of_another_recipe_ends_both_of_them(two):
    path = toml(recipe(ARMS, *HOW, "optimizer.lr=0.1", teacher=TEACHER), two / "other.toml")
    ended = under_torchrun(two / "first", path)
    assert ended.returncode != 0
    assert "found a study of another recipe" in ended.stderr


@pytest.mark.parametrize(("images", "size"), [(37, 12), (8, 7), (1, 5)])
def test_a_step_with_no_image_for_one_of_them_is_refused(images, size):
    told = f"found {images} training images in steps of {size}, which leave 1 for the last step of "
    with pytest.raises(InputError, match=told + "2 processes; wanted one or more for each"):
        Processes(1, 2).must_share(images, size)
    Processes(0, 1).must_share(images, size)


@pytest.mark.parametrize(("images", "size"), [(36, 12), (38, 12), (2, 5)])
def test_a_step_with_an_image_for_each_is_none(images, size):
    Processes(0, 2).must_share(images, size)


def test_it_is_refused_before_anything_is_trained():
    wanted = recipe(ARMS, *HOW, teacher=TEACHER)
    there = replace(place(wanted), processes=Processes(0, 8))  # the last step has seven images
    with pytest.raises(InputError, match="leave 7 for the last step of 8 processes"):
        rehearse(there)


@pytest.mark.slow
def test_networks_with_batchnorm_are_trained_too(tmp_path):
    arms = {"one": arm("cross_entropy + kd(T=4)", model=RESNET)}
    path = toml(recipe(arms), tmp_path / "toy.toml")
    ended = under_torchrun(tmp_path / "two", path)
    assert ended.returncode == 0, ended.stderr
    assert lines(tmp_path / "two")[-1]["train_loss"] > 0


def test_alone_nothing_is_exchanged():
    alone, module = Processes(), torch.nn.Linear(1, 1)
    alone.wait()
    assert alone.writes
    assert alone.wrapped(module) is module
    assert alone.told(lambda: 5) == 5
    values = torch.ones(3)
    assert alone.summed(values) is values
    with joined(torch.device("cpu")) as processes:
        assert processes == alone
    assert not Processes(1, 2).writes


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "99")
    monkeypatch.setenv("LOCAL_RANK", "98")
    told = r"found process 98 and \d GPUs; wanted one GPU a process: lower --nproc-per-node, or"
    with pytest.raises(UsageError, match=told), joined(torch.device("cuda")):
        pass


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    assert own_device(torch.device("cuda")) == torch.device("cuda")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device(torch.device("cuda")) == torch.device("cuda", 1)
    assert own_device(torch.device("cpu")) == torch.device("cpu")
