"""What runs need of the memory, counted by hand, and what there is."""

from dataclasses import replace

import pytest
import torch
from toystudy import RESNET, arm, place, recipe

from kdprobe.batches import bytes_put_out
from kdprobe.loading import build
from kdprobe.train import memory
from kdprobe.train.memory import Need, memory_there, need_together, room
from kdprobe.train.plan import cohorts
from kdprobe.train.processes import Processes
from kdprobe.train.rehearsing import rehearse
from kdprobe.train.settings import Source

WIDE = {"name": "resnet8", "arguments": {"width": 6}}
CPU = torch.device("cpu")


def needs(arms, *changes, processes=1, **more):
    there = place(recipe(arms, *changes, **more))
    return rehearse(replace(there, processes=Processes(count=processes)))


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def weighed(model):
    """(bytes of weights, bytes of buffers, bytes put out for an image) of a network by itself."""
    there = place(recipe({"one": arm("cross_entropy")}))
    made = build(replace(there).entry(recipe({"one": arm("kd", model=model)}).arms["one"].model))
    put_out = bytes_put_out(made.eval(), there.train.pixels[:1])
    return size(made.parameters()), size(made.buffers()), put_out


@pytest.mark.parametrize(
    ("changes", "copies", "buffers"),
    [
        ((), 5, 1),  # value, gradient, momentum, begin, last step
        (("optimizer.momentum=0.0",), 4, 1),
        (("optimizer.ema=0.9",), 6, 2),
    ],
)
@pytest.mark.parametrize("together", [1, 2])
def test_what_a_network_needs_of_its_own(changes, copies, buffers, together):
    more = {"together": 2} if together == 2 else {}
    need = needs({"one": arm("cross_entropy", **more)}, *changes, teacher=None)["one"]
    weights, beside, put_out = weighed(RESNET)
    normal = 4 * 6 * together  # bytes of mean and deviation, which are buffers of no body
    assert abs(need.own - together * (copies * weights + buffers * beside)) <= buffers * normal
    assert need.step == 2 * 16 * put_out * together
    assert need.teacher == 0


def test_adam_keeps_one_number_a_weight_more_than_momentum():
    sgd, adam = (
        needs({"one": arm("cross_entropy")}, f"optimizer.method={how}", teacher=None)["one"].own
        for how in ("sgd", "adam")
    )
    weights, _, _ = weighed(RESNET)
    assert weights <= adam - sgd <= weights + 4 * 100, "and a count of steps for each tensor"


def test_what_losses_own_is_counted_once_where_it_does_not_learn():
    """CRD's memory: two numbers of 4 bytes for each of the 36 images and dimensions."""
    few, many = (
        needs({"one": arm(f"crd(dim={dim})")}, "optimizer.momentum=0.0")["one"].own
        for dim in (4, 1004)
    )
    embedding = 1000 * (8 + 1) * 4  # of one network's 8 features, with its bias
    assert many - few == 1000 * 36 * 4 * 2 + 2 * 2 * embedding


def test_the_teacher_its_answers_and_what_is_shown_of_it_are_counted():
    kd, at = (needs({"one": arm(loss)}, teacher=WIDE)["one"] for loss in ("kd", "at"))
    weights, beside, _ = weighed(WIDE)
    logits, kept = 4 * 10, 16 + 4  # bytes of an image's, images of test and validation
    assert abs(kd.teacher - (weights + beside + (kept + 16) * logits)) <= 4 * 6
    assert at.teacher > kd.teacher + 16 * 6 * 32 * 32 * 4 / 2, "maps of a batch"
    cached = ["cache_teacher=true", "data.shift=0"]
    assert needs({"one": arm("kd")}, *cached, teacher=WIDE)["one"].teacher - kd.teacher == 36 * 40


def test_who_is_only_compared_with_a_teacher_holds_it_too():
    need = needs({"base": arm("cross_entropy", role="baseline")}, teacher=WIDE)
    assert need["base"].teacher > weighed(WIDE)[0]
    assert need["teacher"].teacher == 0


def test_a_smaller_step_and_parts_of_it_need_less():
    def step(*changes, **more):
        return needs({"one": arm("cross_entropy")}, *changes, teacher=None, **more)["one"].step

    whole = step()
    assert step("optimizer.accumulate=4") == whole / 4 == step("optimizer.batch_size=4")
    assert step(processes=2) == whole / 2
    assert step("optimizer.batch_size=1000") == whole * 36 / 16, "there are no more images"


def test_several_processes_hold_what_they_exchange_beside_their_gradients():
    alone, two = (
        needs({"one": arm("cross_entropy")}, teacher=None, processes=count)["one"].own
        for count in (1, 2)
    )
    assert two - alone == weighed(RESNET)[0]


def test_together_all_hold_their_own_one_steps_and_each_teacher_is_there_once():
    (run,) = cohorts(recipe({"one": arm("kd")}))[-1].runs
    other = Source(run="teacher", epoch=1)
    runs = [replace(run, arm=name) for name in "abc"]
    runs[2] = replace(runs[2], teacher=other)
    given = {"a": Need(1, 20, 300), "b": Need(2, 10, 400), "c": Need(4, 5, 7000)}
    assert need_together(runs, given) == 7 + 20 + 400 + 7000
    assert need_together(runs[:1], given) == given["a"].alone == 321


def test_what_there_is_is_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1000)
    assert memory_there(CPU) == 1000
    monkeypatch.setattr(memory, "available", lambda: None)
    assert memory_there(CPU) >= 2**60, "nobody knows"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (500, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert memory_there(torch.device("cuda")) == 700, "torch holds 200 that it does not use"


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    class Four(Processes):
        def least(self, value, device):
            return value - 1  # another one finds less

    monkeypatch.setattr(memory, "available", lambda: 4000)
    there = place(recipe({"one": arm("cross_entropy")}))
    assert room(there) == 4000
    assert room(replace(there, processes=Four(count=4))) == 999
