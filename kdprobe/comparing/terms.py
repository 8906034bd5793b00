"""What a rule is made of: numbers that are named or reckoned, their orders, and what joins these.

Truth has three values: what is not known (None) makes a whole unknown only where it matters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kdprobe.stats import is_rounding

Pins = tuple[tuple[str, str], ...]  # (("layer", "logits"),)


@dataclass(frozen=True)
class Reference:
    """A quantity of a side, or of the baseline; `name` is empty for ``baseline`` alone."""

    name: str
    pins: Pins = ()
    of_baseline: bool = False

    @property
    def label(self) -> str:
        """As it is written: ``rho[layer=logits]``."""
        where = ", ".join(f"{key}={value}" for key, value in self.pins)
        return f"{self.name}[{where}]" if where else self.name


Values = Mapping[Reference, float]


@dataclass(frozen=True)
class Term:
    """Something with a value."""

    value: Callable[[Values], float]
    references: tuple[Reference, ...] = ()

    @classmethod
    def number(cls, number: float) -> "Term":
        """A number as it is written."""
        return cls(lambda values: number)

    @classmethod
    def reference(cls, reference: Reference) -> "Term":
        """The value of what is named."""
        return cls(lambda values: values[reference], (reference,))


def joined(sign: str, left: Term, right: Term) -> Term:
    """``left sign right``; NaN where it is divided by zero."""
    work: dict[str, Callable[[float, float], float]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b if b else float("nan"),
    }
    do = work[sign]
    return Term(
        lambda values: do(left.value(values), right.value(values)),
        (*left.references, *right.references),
    )


@dataclass(frozen=True)
class Order:
    """``small < large`` as the one number ``small - large``: below zero where it holds."""

    text: str
    small: Term
    large: Term
    closed: bool  # holds at zero too

    @classmethod
    def of(cls, text: str, sign: str, left: Term, right: Term) -> "Order":
        """The order that `sign` (<, <=, > or >=) makes of two terms."""
        small, large = (left, right) if sign[0] == "<" else (right, left)
        return cls(text, small, large, sign.endswith("="))

    @property
    def references(self) -> tuple[Reference, ...]:
        """All that it names, in the order of the smaller and the larger side."""
        return tuple(dict.fromkeys((*self.small.references, *self.large.references)))

    def ends(self, values: Values) -> tuple[float, float]:
        """Both sides of it."""
        return self.small.value(values), self.large.value(values)

    def gap(self, values: Values) -> float:
        """``small - large``, and 0 where they differ by rounding alone."""
        ends = self.ends(values)
        gap = ends[0] - ends[1]
        return 0.0 if is_rounding(abs(gap), np.array(ends)) else gap

    def holds(self, gap: float) -> bool:
        """Whether it does where ``small - large`` is `gap`."""
        return gap < 0 or (self.closed and gap == 0)


Truth = bool | None
Judge = Callable[[Order], Truth]


@dataclass(frozen=True)
class Condition:
    """Orders, and what of their truth makes the whole true."""

    orders: tuple[Order, ...]
    truth: Callable[[Judge], Truth]


def ordered(order: Order) -> Condition:
    """The condition that one order is."""
    return Condition((order,), lambda judge: judge(order))


def both(left: Condition, right: Condition) -> Condition:
    """Known to be false as soon as one is."""

    def truth(judge: Judge) -> Truth:
        found = (left.truth(judge), right.truth(judge))
        return False if False in found else None if None in found else True

    return Condition((*left.orders, *right.orders), truth)


def either(left: Condition, right: Condition) -> Condition:
    """Known to be true as soon as one is."""

    def truth(judge: Judge) -> Truth:
        found = (left.truth(judge), right.truth(judge))
        return True if True in found else None if None in found else False

    return Condition((*left.orders, *right.orders), truth)
