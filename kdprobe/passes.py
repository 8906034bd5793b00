"""What do the networks' own passes cost?  Seconds inside forward and backward passes.

A `Network` tells of its forward passes by itself; whoever runs a backward pass does so inside
``with passing():``. Nothing is measured, and nothing waits, unless someone asks by ``metered()``.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Meter:
    """Seconds of the passes between the beginning and the end of ``metered()``."""

    seconds: float = 0.0
    deep: int = 0  # passes inside a pass count once
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list)

    def settle(self) -> None:
        """Add what a GPU has done; it works while the program goes on, so its own clock is read."""
        if self.events:
            torch.cuda.synchronize()
            self.seconds += sum(start.elapsed_time(end) for start, end in self.events) / 1000
            self.events.clear()


_meters: list[Meter] = []


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure the passes of this process; the meter is complete when the block has ended."""
    meter = Meter()
    _meters.append(meter)
    try:
        yield meter
    finally:
        _meters.remove(meter)
        meter.settle()


@contextmanager
def passing() -> Iterator[None]:
    """What runs inside is a forward or backward pass."""
    if not _meters:
        yield
        return
    meter = _meters[-1]
    meter.deep += 1
    start = None if meter.deep > 1 else _Start()
    try:
        yield
    finally:
        meter.deep -= 1
        if start is not None:
            start.stop(meter)


class _Start:
    """A moment, by the clock of the GPU where there is one."""

    def __init__(self) -> None:
        self.event = _event()
        self.clock = time.perf_counter()

    def stop(self, meter: Meter) -> None:
        end = _event()
        if self.event is None or end is None:
            meter.seconds += time.perf_counter() - self.clock
        else:
            meter.events.append((self.event, end))


def _event() -> torch.cuda.Event | None:
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]  # torch's own gap
        return None
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # alike
    event.record()
    return event
