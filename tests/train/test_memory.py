"""A recipe that asks more memory than there is, is refused before anything is trained."""

import pytest
import torch
from toystudy import RESNET, arm, recipe, trained

from kdprobe.batches import bytes_put_out
from kdprobe.errors import InputError
from kdprobe.loading import build
from kdprobe.train import memory
from kdprobe.train.cohort import gathered
from kdprobe.train.memory import memory_needed, memory_there, must_have_room
from kdprobe.train.plan import cohorts

ARMS = {"one": arm("cross_entropy"), "two": arm("cross_entropy + dml", together=2)}


def team(*changes):
    from toystudy import place

    wanted = recipe(ARMS, *changes, teacher=None)
    there, plan = place(wanted), cohorts(wanted)[-1]
    return there, plan, gathered(there, plan).learners


def test_what_is_needed_is_counted_by_hand():
    there, _, learners = team()
    network = build(there.entry(recipe(ARMS).arms["one"].model))
    weights = sum(4 * weight.numel() for weight in network.parameters())
    weights += sum(one.numel() * one.element_size() for one in network.buffers())
    image = bytes_put_out(network, there.train.pixels[:1])
    images = 4 * (there.train.pixels.numel() + there.test.pixels.numel())
    assert memory_needed(there, learners) == images + 3 * 4 * weights + 2 * (2 * 16 * image)


def test_a_smaller_step_and_parts_of_it_need_less():
    whole, cut, small = (
        memory_needed(*team(change)[::2])
        for change in ("seeds=[0]", "optimizer.accumulate=4", "optimizer.batch_size=4")
    )
    assert whole > cut == small


def test_one_gib_is_refused_with_the_numbers_and_what_to_do(monkeypatch, tmp_path):
    needed = memory_needed(*team()[::2])
    monkeypatch.setattr(memory, "memory_there", lambda device: needed - 1)
    with pytest.raises(InputError) as error:
        trained(tmp_path, ARMS, teacher=None)
    told = str(error.value)
    assert "cohort 'seed0' of 2 runs needs about 0.0 GiB on cpu and there are 0.0" in told
    assert "lower optimizer.batch_size (16), raise optimizer.accumulate (1), or train fewer" in told
    assert not list(tmp_path.rglob("*.safetensors")), "nothing was trained"


def test_the_teachers_cohort_is_looked_at_too(monkeypatch, tmp_path):
    wide = {"name": "resnet8", "arguments": {"width": 16}}
    plan = recipe({"one": arm("kd", model=RESNET)}, teacher=wide)
    monkeypatch.setattr(memory, "memory_there", lambda device: 2**20)
    with pytest.raises(InputError, match="cohort 'teacher' of 1 runs needs about"):
        trained(tmp_path, {"one": plan.arms["one"].model_dump()}, teacher=wide)


@pytest.mark.parametrize("more", [0, 1])
def test_what_just_fits_and_what_nobody_knows_is_let_pass(monkeypatch, more):
    there, plan, learners = team()
    known = memory_needed(there, learners) if more else 0
    monkeypatch.setattr(memory, "memory_there", lambda device: known)
    must_have_room(there, plan, learners)


def test_the_memory_of_this_machine_is_known_or_0(monkeypatch):
    found = memory_there(torch.device("cpu"))
    assert found > 2**27

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    assert memory_there(torch.device("cpu")) == 0
