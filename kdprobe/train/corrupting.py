"""What is done to the training images before any training?  Corruptions, one after another.

Each draws from a generator of its own, named by the corruption: adding one changes the draws of no
other.

Axes: n images, m of them taken.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kdprobe.expression import Call
from kdprobe.train.calls import call_faults, read_call
from kdprobe.train.chance import generator
from kdprobe.train.corruptions.contract import CORRUPTIONS, Taken, everything

CLASSES, FEW, MANY = 10, 100, 100_000  # of made-up labels; images a class


def corrupted(labels: Tensor, classes: int, corrupt: Sequence[str], seed: int) -> Taken:
    """What is left of the images, and the labels to learn from.

    Args:
        labels: (n,) int64, the true ones, on the CPU.
        classes: how many there are.
        corrupt: such as ``["power_law(gamma=0.2)", "label_noise(rate=0.4)"]``; the first comes
            first.
        seed: of what they draw.

    Raises:
        UnknownName: no corruption has such a name.
        InputError: a corruption cannot be read, has a senseless setting, or wants more images.
    """
    taken, before = everything(labels), Counter[str]()
    for text in corrupt:
        call = read_call("corruption", text)
        chance = generator(seed, 0, f"corruption {call.name} {before[call.name]}")
        before[call.name] += 1
        found = CORRUPTIONS[call.name].take(taken.labels, classes, chance, **dict(call.knobs))
        taken = Taken(taken.rows[found.rows], found.labels)
    return taken


def corruption_faults(text: str) -> Iterator[str]:
    """What is wrong with one corruption, before there are images: found and wanted."""
    yield from call_faults(text, {key: CORRUPTIONS[key].take for key in CORRUPTIONS}, _attempt)


def _attempt(call: Call) -> None:
    """Try it on labels made up, of each class as many as the largest number that it names."""
    numbers = [value for _, value in call.knobs if type(value) is int]
    labels = torch.arange(CLASSES).repeat(min(max([FEW, *numbers]), MANY))
    CORRUPTIONS[call.name].take(labels, CLASSES, generator(0, 0, "attempt"), **dict(call.knobs))
