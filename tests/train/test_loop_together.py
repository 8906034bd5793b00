"""What branches share is each branch's own: in its lengths, its averages and its file."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from toystudy import arm, far, lines, record, same, trained, weights

from kdprobe.loading import load_network
from kdprobe.manifest import RunEntry
from kdprobe.study import Checkpoint

SHARED = {"one": arm("cross_entropy", together=2, share="stage2")}
NAMES = ("one-seed0", "one-seed0.1")
LOWER = ("conv1", "bn1", "layer1", "layer2")
ONE_STEP = ["optimizer.batch_size=64", "optimizer.epochs=3"]  # an epoch


def parameters(folder, run, epoch):
    """In double, without the statistics."""
    found = weights(folder, run, epoch)
    return {k: v.double() for k, v in found.items() if k.endswith(("weight", "bias"))}


def lengths(folder, run, epoch):
    with safe_open(folder / run / f"epoch-{epoch:04d}.safetensors", "pt") as file:
        return json.loads(file.metadata()["path_length"])


def straight(start, end, scope=""):
    inside = [k for k in start if not scope or k.startswith(f"{scope}.")]
    return math.sqrt(sum(float((end[k] - start[k]).square().sum()) for k in inside))


def test_a_branch_walks_the_way_of_what_it_shares(tmp_path):
    """Each of three single steps is as long as its distance, in every scope of both branches."""
    folder = trained(tmp_path, SHARED, *ONE_STEP, teacher=None)
    for run in NAMES:
        start = parameters(folder, run, 0)
        for epoch in (1, 2, 3):
            before, after = (parameters(folder, run, at) for at in (epoch - 1, epoch))
            so_far, walked = lengths(folder, run, epoch - 1), lengths(folder, run, epoch)
            for scope, length in walked.items():
                wanted = straight(before, after, scope)
                assert length - so_far[scope] == pytest.approx(wanted, rel=1e-4), scope
            told = lines(folder, run)[epoch]["distance"]
            assert told == pytest.approx(straight(start, after), rel=1e-4)
    ours, theirs = (lengths(folder, run, 3) for run in NAMES)
    assert all(ours[scope] == theirs[scope] > 0 for scope in LOWER)
    assert ours["layer3"] != theirs["layer3"]


def test_averages_of_branches_follow_the_weights_that_each_branch_has(tmp_path):
    plain = trained(tmp_path / "plain", SHARED, *ONE_STEP, teacher=None)
    folder = trained(tmp_path / "mean", SHARED, *ONE_STEP, "optimizer.ema=0.8", teacher=None)
    for run in NAMES:
        mean = parameters(plain, run, 0)
        for epoch in (1, 2, 3):
            now = parameters(plain, run, epoch)
            mean = {key: 0.8 * mean[key] + 0.2 * now[key] for key in mean}
            assert far(mean, parameters(folder, run, epoch)) < 1e-6
        assert far(mean, parameters(plain, run, 3)) > 1e-3


@pytest.mark.parametrize("averaged", [[], ["optimizer.ema=0.8"]])
def test_the_file_of_each_branch_is_loaded_as_any_checkpoint(tmp_path, averaged):
    folder = trained(tmp_path, SHARED, *averaged, teacher=None)
    for epoch in range(3):
        first, second = (weights(folder, run, epoch) for run in NAMES)
        shared = {key for key in first if key.startswith(tuple(f"{part}." for part in LOWER))}
        assert all(torch.equal(first[key], second[key]) for key in shared)
        assert not torch.equal(first["fc.weight"], second["fc.weight"])
    for run in NAMES:
        entry = RunEntry.model_validate(record(folder, run)["run"]).network
        file = folder / run / "epoch-0002.safetensors"
        network = load_network(Checkpoint(run, 2, file, entry), torch.device("cpu"))
        assert same(network.body.state_dict(), weights(folder, run, 2))
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
