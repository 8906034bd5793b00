"""What a technique is: something that happens to a network while it trains, beside its loss.

A technique is made anew for every run, ``make(**knobs)``, and attached to the network before its
optimiser is made. It composes with every loss. What has to be rebuilt before a checkpoint can be
read (a fake-quantised layer) is a transform of the network's entry; a technique is what happens in
time: a pruning schedule, the moment at which quantisation begins.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.expression import Call
from kdprobe.registry import Catalogue
from kdprobe.train.calls import call_faults, read_call


class Working(Protocol):
    """A technique at work on one network."""

    def attach(self, body: nn.Module) -> None:
        """Take hold of `body`. All tensors that a step may change are in its state from now on.

        Raises InputError where it does not fit.
        """

    def before_step(self, body: nn.Module, passed: float, total: int) -> None:
        """`passed` of `total` epochs are over, fractions counted: prune, switch on, ...

        Called before every step, and once when training is over, with `passed` equal to `total`.
        What it does follows from these two and from the state of `body`, so that a technique made
        anew goes on with a restored state.
        """

    def plain(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state of an attached body as that of the network of the entry, for a checkpoint."""

    def facts(self, body: nn.Module) -> dict[str, Any]:
        """What to note of it in the metrics, such as {"kept": 0.1}."""


@dataclass(frozen=True)
class Technique:
    """A technique and its label."""

    key: str
    title: str
    source: str
    make: Callable[..., Working]


T = TypeVar("T", bound=type)
TECHNIQUES: Catalogue[Technique] = Catalogue("technique", "kdprobe.train.techniques")


def technique(key: str, *, title: str, source: str) -> Callable[[T], T]:
    """Put the class below into TECHNIQUES under `key`."""

    def add(make: T) -> T:
        TECHNIQUES.add(key, Technique(key, title, source, make))
        return make

    return add


def techniques_of(calls: Sequence[str]) -> list[Working]:
    """New techniques for one network, such as of ``["prune(amount=0.5)"]``, in order.

    Raises:
        UnknownName: no technique has such a name.
        InputError: one cannot be read, or does not take its settings.
    """
    return [_made(read_call("technique", text)) for text in calls]


def technique_faults(text: str) -> Iterator[str]:
    """What is wrong with one technique: its name, its knobs or their values; found and wanted."""
    yield from call_faults(text, {key: TECHNIQUES[key].make for key in TECHNIQUES}, _made)


def _made(call: Call) -> Working:
    try:
        return TECHNIQUES[call.name].make(**dict(call.knobs))
    except TypeError as error:
        told = f"technique {call.label!r} does not take these settings: {error}"
        raise InputError(told) from error


def moment(name: str, value: float) -> float:
    """A knob that counts epochs. Raises InputError unless it is a finite number from 0."""
    sound = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not sound or not 0 <= value < math.inf:
        raise InputError(f"found {name}={value!r}; wanted a number of epochs from 0")
    return float(value)


def must_come(name: str, value: float, total: int) -> None:
    """Raise InputError where the moment `value` of knob `name` is after the training's end."""
    if value > total:
        raise InputError(
            f"found {name}={value:g} in a training of {total} epochs, so it would never come; "
            f"wanted at most {total}: lower {name} or train longer"
        )
