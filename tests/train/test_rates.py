"""The learning rate, against PyTorch's own schedules and the formulas written out."""

import math

import pytest
import torch

from kdprobe.train.plan import cohorts, schedule_sentence
from kdprobe.train.rates import Span, learning_rate, method_spoken, spoken
from kdprobe.train.recipe import load_recipe
from kdprobe.train.settings import Optimizer

STEPS, EPOCHS = 7, 10
SPAN = Span(0.4, 0, EPOCHS)


def how(**knobs):
    return Optimizer(lr=0.4, batch_size=1, epochs=EPOCHS, **knobs)


def rates(optimizer, span=SPAN, epochs=EPOCHS):
    """Of every step."""
    places = [step / STEPS for step in range(epochs * STEPS)]
    return [learning_rate(optimizer, span, passed, 1 / STEPS) for passed in places]


def of_torch(make):
    """Of every step, with a schedule of PyTorch."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=SPAN.lr)
    schedule, found = make(optimizer), []
    for _ in range(EPOCHS * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_one_cycle_is_that_of_pytorch():
    """PyTorch puts the summit between two steps where ours has a time, so it is met exactly."""
    total = EPOCHS * STEPS + 1  # PyTorch counts steps from first to last, we the time between them

    def make(optimizer):
        cycle = torch.optim.lr_scheduler.OneCycleLR
        # its summit is at the whole step pct_start * total - 1; here: 0.3 * 70 = 21
        return cycle(optimizer, SPAN.lr, total_steps=total, pct_start=22 / total)

    assert rates(how(schedule="one_cycle")) == pytest.approx(of_torch(make), rel=1e-9)


def test_one_cycle_begins_tops_and_ends_where_it_says():
    cycle = how(schedule="one_cycle")
    found = [learning_rate(cycle, SPAN, passed) for passed in (0, 3, 10)]
    assert found == pytest.approx([0.4 / 25, 0.4, 0.4 / 250_000])
    every = rates(cycle)
    summit = every.index(max(every))
    assert every[: summit + 1] == sorted(every[: summit + 1])
    assert every[summit:] == sorted(every[summit:], reverse=True)


def test_cosine_is_that_of_pytorch():
    def make(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * STEPS)

    assert rates(how()) == pytest.approx(of_torch(make), abs=1e-9)
    assert learning_rate(how(), SPAN, EPOCHS) == pytest.approx(0, abs=1e-12)


def test_steps_are_those_of_pytorch():
    knobs = {"milestones": (3, 7), "gamma": 0.2}

    def make(optimizer):
        counted = [STEPS * milestone for milestone in knobs["milestones"]]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, counted, gamma=0.2)

    assert rates(how(schedule="steps", **knobs)) == pytest.approx(of_torch(make))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_a_warm_up_multiplies_what_comes_out_and_no_step_is_lost(schedule):
    warm, plain = rates(how(schedule=schedule, warmup=2.5)), rates(how(schedule=schedule))
    for step, (ours, before) in enumerate(zip(warm, plain, strict=True)):
        assert ours == pytest.approx(before * min(1, (step + 1) / (2.5 * STEPS)))
    assert warm[0] > 0


def test_a_span_begins_anew_at_its_own_rate():
    later = Span(0.1, 4, 6)
    optimizer = how(warmup=1)
    for step in range(6 * STEPS):
        over = step / STEPS
        wanted = 0.1 * (1 + math.cos(math.pi * over / 6)) / 2 * min(1, over + 1 / STEPS)
        assert learning_rate(optimizer, later, 4 + over, 1 / STEPS) == pytest.approx(wanted)


def test_milestones_are_counted_in_a_span_from_its_begin():
    """As a stage's own rate begins the schedule anew."""
    stepped = how(schedule="steps", milestones=(2,))
    found = [learning_rate(stepped, Span(0.1, 4, 6), passed) for passed in (4, 5.9, 6, 9)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01])


STAGES = "{role='student', model={name='resnet8'}, stages=[%s]}"


def spans(text):
    overrides = ["optimizer.epochs=9", "checkpoints=all", f"arms.kd={STAGES % text}"]
    run = next(r for r in cohorts(load_recipe("tiny", overrides))[-1].runs if r.arm == "kd")
    return run, [(stage.begin, stage.end, stage.span) for stage in run.stages]


def test_stages_without_a_rate_of_their_own_go_on_with_the_schedule():
    _, found = spans("{epochs=2, loss='kd'}, {epochs=3, loss='kd'}, {epochs=4, loss='kd'}")
    whole = Span(0.05, 0, 9)
    assert found == [(0, 2, whole), (2, 5, whole), (5, 9, whole)]


def test_a_stage_with_a_rate_begins_a_span_up_to_the_next_such_stage():
    run, found = spans(
        "{epochs=1, loss='kd', lr=0.3}, {epochs=2, loss='kd'}, {epochs=2, loss='kd', lr=0.2}, "
        "{epochs=1, loss='kd'}, {epochs=3, loss='kd', lr=0.1}"
    )
    first, second, third = Span(0.3, 0, 3), Span(0.2, 3, 3), Span(0.1, 6, 3)
    assert [span for *_, span in found] == [first, first, second, second, third]
    assert [run.stage(epoch) for epoch in range(10)] == [0, 0, 1, 1, 2, 2, 3, 4, 4, 4]
    told = schedule_sentence(load_recipe("tiny").optimizer, run)
    assert told == (
        "cosine from 0.3 to 0, every step, over 3 epochs; then cosine from 0.2 to 0, every step, "
        "over 3 epochs; then cosine from 0.1 to 0, every step, over 3 epochs in batches of 64; "
        "SGD, momentum 0.9, weight decay 0.0005"
    )


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"schedule": "constant"}, "constant 0.4"),
        ({}, "cosine from 0.4 to 0, every step"),
        (
            {"schedule": "steps", "milestones": (2, 5)},
            "0.4, times 0.1 after epochs 2, 5",
        ),
        (
            {"schedule": "one_cycle", "warmup": 1.5},
            "one cycle up to 0.4, every step, warmed up over 1.5 epochs",
        ),
    ],
)
def test_a_span_in_words(knobs, words):
    assert spoken(how(**knobs), SPAN) == words


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({}, "SGD, momentum 0.9, weight decay 0.01"),
        ({"nesterov": True}, "SGD, Nesterov momentum 0.9, weight decay 0.01"),
        ({"method": "adam"}, "Adam, beta_1 0.9, weight decay 0.01"),
        ({"method": "adamw", "momentum": 0.8}, "AdamW, beta_1 0.8, weight decay 0.01"),
    ],
)
def test_an_optimiser_in_words(knobs, words):
    assert method_spoken(how(**knobs), 0.01) == words
