"""What a transform is: a fresh network goes in, its twin with one thing changed comes out.

A function ``change(body: nn.Module, **knobs) -> nn.Module`` that may change `body` in place. It is
named in the network's entry (``transforms = ["strip_skips"]``), so whoever reads the checkpoint
builds the same twin. New weights are drawn from torch's global generator, as those of any module
when it is made. The twin keeps the taps, or gives its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from kdprobe.errors import InputError
from kdprobe.expression import ExpressionError, parse_call
from kdprobe.registry import Catalogue


@dataclass(frozen=True)
class Transform:
    """A transform and its label."""

    key: str
    title: str
    source: str
    change: Callable[..., nn.Module]


TRANSFORMS: Catalogue[Transform] = Catalogue("transform", "kdprobe.models.transforms")

Change = Callable[..., nn.Module]


def transform(key: str, *, title: str, source: str) -> Callable[[Change], Change]:
    """Put the function below into TRANSFORMS under `key`."""

    def add(change: Change) -> Change:
        TRANSFORMS.add(key, Transform(key, title, source, change))
        return change

    return add


def transformed(body: nn.Module, transforms: Sequence[str]) -> nn.Module:
    """The twin after all `transforms`, such as ``cheap_convolutions(kind='depthwise')``.

    Raises:
        UnknownName: no transform has such a name.
        InputError: a transform cannot be read, or does not take its settings.
    """
    for text in transforms:
        try:
            call = parse_call(text)
        except ExpressionError as error:
            raise InputError(f"transform {text!r}: {error}") from error
        try:
            body = TRANSFORMS[call.name].change(body, **dict(call.knobs))
        except TypeError as error:
            raise InputError(f"transform {text!r} does not take these settings: {error}") from error
    return body
