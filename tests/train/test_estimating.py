"""What a dry run counts: all stages, steps in parts, all that is written, and the memory.

How the command talks is in test_dry_run.py.
"""

from functools import partial

import pytest
import torch
from torch import nn
from toystudy import arm, place, recipe, trained

from kdprobe.cli import cli
from kdprobe.commands.ending import ended
from kdprobe.train import estimating, memory
from kdprobe.train.estimating import estimated
from kdprobe.train.losses.contract import LOSSES, Loss
from kdprobe.train.recipe import load_recipe
from kdprobe.train.rehearsing import rehearse
from kdprobe.train.sources import Looking

CPU = torch.device("cpu")
STEPS = 3  # an epoch
SLOW, LOOK = 1, 100  # seconds of the clock below that a loss takes, and a teacher's look


class Clock:
    """Stands still while nothing that is counted happens."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()

    class Slow(nn.Module):
        def forward(self, student, teacher, target):
            made.now += SLOW
            return student.logits.sum() * 0 + 1

    for name, needs_teacher in (("slow", False), ("slow_kd", True)):
        entry = Loss(name, name, "this test", needs_teacher, False, Slow)
        monkeypatch.setitem(LOSSES._entries, name, entry)
    real = Looking.look

    def look(self, place, batch):
        made.now += LOOK
        return real(self, place, batch)

    monkeypatch.setattr(Looking, "look", look)
    monkeypatch.setattr(estimating, "time", made)
    return made


def seconds(arms, *changes):
    """What the runs of six epochs of `arms` take, a step of each epoch."""
    found = estimated(recipe(arms, "optimizer.epochs=6", *changes), CPU)[1:]
    return [cost.seconds / STEPS for cost in found]


def staged(*parts):
    return arm(stages=[{"epochs": epochs, "loss": loss} for epochs, loss in parts])


@pytest.mark.parametrize(
    ("one", "slow"),
    [
        (arm("slow"), 6),
        (staged((5, "cross_entropy"), (1, "slow")), 1),
        (staged((1, "cross_entropy"), (5, "slow")), 5),
        (staged((2, "slow"), (1, "cross_entropy"), (3, "slow + cross_entropy")), 5),
        (arm("cross_entropy + slow@after(epoch=4)"), 2),
        (arm("cross_entropy + slow@until(epoch=4)"), 4),
    ],
    ids=range(6),
)
def test_each_epoch_costs_what_its_terms_cost(clock, one, slow):
    assert seconds({"one": one}) == [slow * SLOW]


def test_a_step_in_parts_asks_losses_and_teachers_for_each_part(clock):
    assert seconds({"one": arm("slow_kd")}) == [6 * (SLOW + LOOK)]
    assert seconds({"one": arm("slow_kd")}, "optimizer.accumulate=4") == [6 * 4 * (SLOW + LOOK)]


def test_a_look_is_shared_among_those_who_look_in_the_same_epoch(clock):
    arms = {
        "one": staged((2, "slow_kd"), (4, "cross_entropy")),
        "two": arm("slow_kd"),
        "base": arm("slow", role="baseline"),
    }
    both, alone = 2 * LOOK / 2, 4 * LOOK
    wanted = [2 * SLOW + both, 6 * SLOW + both + alone, 6 * SLOW]
    assert seconds(arms) == wanted
    assert seconds(arms, "at_once=1") == [2 * (SLOW + LOOK), 6 * (SLOW + LOOK), 6 * SLOW]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_all_that_is_written_is_counted(tmp_path, precision, validation):
    company = {"together": 2} if validation else {}
    arms = {
        "crd": arm("crd(dim=512)"),  # its memory outweighs the network
        "pair": arm("cross_entropy", **company),
        "both": arm("cross_entropy + crd(dim=512)", **company),
    }
    changes = [f"precision={precision}", f"data.validation={validation}", "checkpoints=[0, 2]"]
    changes += ["predictions=true"] if validation else []
    costs = {cost.run: cost for cost in estimated(recipe(arms, *changes), CPU)}
    folder = trained(tmp_path, arms, *changes)
    for run in ("teacher", "crd-seed0", "pair-seed0", "both-seed0"):
        homes = [home for home in folder.iterdir() if home.name.split(".")[0] == run]
        written = [x.stat().st_size for home in homes for x in home.rglob("*.safetensors")]
        heads = 12_000 * len(written)  # names and shapes, and whole numbers, are not halved
        assert costs[run].bytes <= sum(written) <= costs[run].bytes + heads
    if validation:
        assert costs["both-seed0"].bytes - costs["pair-seed0"].bytes > 4 * 2 * 2 * 28 * 512 * 4


def test_predictions_are_counted(tmp_path):
    """Of 600 images, at each of three epochs, two bytes a class, and sixteen beside."""
    changes = ["data.validation=0.15", "data.arguments={train = 4000, test = 16}"]
    without, beside = (
        estimated(recipe({"one": arm("kd")}, *changes, f"predictions={asked}"), CPU)[-1].bytes
        for asked in ("false", "true")
    )
    assert beside - without == 600 * (10 * 2 + 16) * 3


@pytest.fixture
def kdprobe(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = ended(partial(cli, ["train", "tiny", "--dry-run", "--device=cpu", *words]))
        return code, *capsys.readouterr()

    return call


def test_what_does_not_fit_into_memory_is_refused(kdprobe, small, monkeypatch):
    words = [f"--set={text}" for text in small]
    monkeypatch.setattr(memory, "memory_there", lambda device: 2**20)
    code, out, err = kdprobe(*words)
    assert (code, out) == (3, "")
    assert "found 0.00 GiB of memory free on cpu; wanted about 0.0" in err
    assert "for run 'teacher': lower optimizer.batch_size (16)" in err


def test_it_is_told_who_will_train_in_parts(kdprobe, small, monkeypatch, caplog):
    texts = [*small, "teacher.model.arguments={width = 1}"]
    words = [f"--set={text}" for text in texts]
    most = max(cost.memory for cost in estimated(load_recipe("tiny", texts), CPU))
    monkeypatch.setattr(memory, "memory_there", lambda device: 8 * most)
    assert kdprobe(*words)[0] == 0
    assert not caplog.records
    monkeypatch.setattr(memory, "memory_there", lambda device: most)
    assert kdprobe(*words)[0] == 0
    (told,) = caplog.records
    assert "seed0 with its 3 runs" in told.getMessage()


def test_the_memory_that_is_told_is_what_training_asks_for():
    wanted = recipe({"one": arm("crd(dim=64)")})
    told = {cost.run: cost.memory for cost in estimated(wanted, CPU)}
    needs = rehearse(place(wanted))
    assert told == {"teacher": needs["teacher"].alone, "one-seed0": needs["one"].alone}
