"""All features in one recipe, killed at any moment: it goes on to the same bits."""

import random

import pytest
from toystudy import RESNET, arm, files, record, trained, untimed

DROPPED = {**RESNET, "transforms": ["dropout(p=0.2)"]}
TWO = [
    {"epochs": 1, "loss": "0.1*fitnet(layer='stage2', regressor='conv_bn_relu')"},
    {"epochs": 2, "loss": "cross_entropy + 0.1*crd(dim=4)", "freeze": ["conv1", "bn1"], "lr": 0.01},
]
ARMS = {
    "one": arm(stages=TWO, model=DROPPED),
    "pair": arm("cross_entropy + dml + 0.1*vid", together=2, teacher={"epoch": 1}),
    "branch": arm("cross_entropy + one(rise=2)", together=2, share="stage2"),
    "pruned": arm("cross_entropy", techniques=["prune(amount=0.5, start=0, end=3)"]),
    "later": arm("kd(T=4)@until(epoch=2) + cross_entropy", teacher={"run": "pair"}, model=DROPPED),
    "again": arm("cross_entropy", start={"run": "one", "epoch": 1}, model=DROPPED),
}
HOW = [
    "optimizer.epochs=3",
    "optimizer.method=adamw",
    "optimizer.lr=0.003",
    "optimizer.warmup=1",
    "optimizer.ema=0.9",
    "optimizer.clip=1.0",
    "optimizer.accumulate=2",
    "data.arguments={train = 44, test = 8}",
    "data.augment=['flip', 'mixup(alpha=0.4)', 'cutout(size=6)']",
    "data.corrupt=['label_noise(rate=0.3)']",
]
MORE = {"gradients": 1, "predictions": True, "checkpoints": "auto"}
RUNS = ("teacher", *(f"{name}-seed0" for name in ARMS), "pair-seed0.1", "branch-seed0.1")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def learn(folder, count=None, *changes):
    """Train; die at the `count`-th step, counted over all cohorts from where it goes on."""
    left = [count]

    def step(event):
        if left[0] is not None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    return trained(folder, ARMS, *HOW, *changes, progress=step, **MORE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return learn(tmp_path_factory.mktemp("whole"))


def must_be_alike(folder, whole):
    ours, theirs = files(folder), files(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    for run in RUNS:
        assert untimed(folder, run) == untimed(whole, run), run
        assert record(folder, run)["reported"] == record(whole, run)["reported"]
    assert (folder / "study.json").read_bytes() == (whole / "study.json").read_bytes()


@pytest.mark.slow
def test_trained_twice_it_has_the_same_bits(whole, tmp_path):
    must_be_alike(learn(tmp_path), whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_at_random_steps_it_goes_on_to_the_same_bits(whole, tmp_path, seed):
    """Several times in a row, in the teacher's cohort and in those of both waves."""
    chance, kills = random.Random(seed), 0
    while True:
        try:
            learn(tmp_path, chance.randint(4, 12))
            break
        except Killed:
            kills += 1
    assert kills >= 2
    must_be_alike(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_in_half_precision_too(tmp_path, kind):
    """In float16 the scale of the loss is part of the state."""
    half = f"optimizer.autocast={kind}"
    straight = learn(tmp_path / "straight", None, half)
    for count in (7, 14):
        with pytest.raises(Killed):
            learn(tmp_path / "killed", count, half)
    must_be_alike(learn(tmp_path / "killed", None, half), straight)
