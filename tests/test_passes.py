"""The meter of passes: what a network's passes take, once, and nothing beside them."""

import pytest
import torch
from stage import network
from torch import nn

from kdprobe import passes
from kdprobe.passes import metered, passing


class Clock:
    """Time that only passes when told."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(passes, "time", clock)
    monkeypatch.setattr(passes, "_event", lambda: None)
    return clock


def slow(clock):
    """A network whose forward pass takes three seconds."""

    class Slow(nn.Module):
        def forward(self, x):
            clock.now += 3.0
            return x.flatten(1)

    body = network(Slow())
    return lambda: body(torch.zeros(1, 3, 2, 2))


def test_a_networks_forward_pass_is_metered_and_what_is_beside_it_is_not(clock):
    run = slow(clock)
    with metered() as meter:
        run()
        clock.now += 10
        run()
    assert meter.seconds == 6


def test_passes_within_passes_count_once_and_meters_are_apart(clock):
    run = slow(clock)
    with metered() as outer:
        with passing():
            run()
            clock.now += 1
        with metered() as inner:
            run()
    assert outer.seconds == 4
    assert inner.seconds == 3


def test_without_a_meter_nothing_is_kept(clock):
    with metered() as meter:
        pass
    slow(clock)()
    assert meter.seconds == 0
