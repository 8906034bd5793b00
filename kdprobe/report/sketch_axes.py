"""Where does a value stand in a sketch?  Scales, ticks and frames, in pixels."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import escape

from kdprobe.report.numbers import MINUS

WIDTH = 440  # pixels of every sketch
LETTER = 5.9  # pixels of a letter, on average
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
PAD = 0.04  # of the range, free on either side
UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML
FEWEST_DECADES = 1.5  # of a logarithmic axis that needs only powers of ten


@dataclass(frozen=True)
class Scale:
    """From values to pixels: straight, or by the logarithm."""

    low: float
    high: float
    start: float  # pixels at `low`
    end: float  # pixels at `high`
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        low, high, value = (self._bent(one) for one in (self.low, self.high, value))
        return self.start + (value - low) / ((high - low) or 1.0) * (self.end - self.start)

    def _bent(self, value: float) -> float:
        return log10(value) if self.log else value

    def ticks(self, most: int) -> list[float]:
        """At most about `most` round values within the range."""
        if not self.log:
            return round_values(self.low, self.high, most)
        decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        wide = log10(self.high / self.low) > FEWEST_DECADES
        found = [m * 10.0**k for k in decades for m in ((1,) if wide else (1, 2, 5))]
        found = [value for value in found if self.low <= value <= self.high]
        return found[:: max(1, ceil(len(found) / most))]


def scale(values: Iterable[float | None], start: float, end: float, *, log: bool = False) -> Scale:
    """A scale that holds all `values` (with None left out), and a little more."""
    known = [value for value in values if value is not None and isfinite(value)]
    if log:
        known = [value for value in known if value > 0]
        low, high = min(known, default=1.0), max(known, default=10.0)
        room = (high / low) ** PAD if high > low else 2.0
        return Scale(low / room, high * room, start, end, log=True)
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = PAD * (high - low) or 0.5 * abs(high) or 0.5
    return Scale(low - room, high + room, start, end)


def round_values(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten, at most `most` of them where that can be.

    >>> round_values(0.0, 1.0, 6)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) / max(most - 1, 1)
    if not span > 0:
        return [low]
    power = 10.0 ** floor(log10(span))
    step = next((factor for factor in STEPS if factor * power >= span), 10.0) * power
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def px(value: float) -> str:
    """A pixel to one decimal, as short as it can be written."""
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def told(value: float) -> str:
    """A tick's label."""
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)


def text(x: float, y: float, words: str, extra: str = "") -> str:
    """A line of text whose anchor is that of the group it stands in; `extra` are attributes."""
    return f'<text x="{px(x)}" y="{px(y)}"{extra}>{escape(UNWRITABLE.sub("", words))}</text>'


def short(words: str, letters: int) -> str:
    """The first `letters` of a name."""
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


def wide(words: Sequence[str]) -> float:
    """Pixels of the longest of some texts."""
    return LETTER * max(map(len, words), default=0)


def frame(
    x: Scale,
    y: Scale,
    x_label: str,
    y_label: str,
    *,
    grid: bool = True,
    names: Sequence[str] = (),
) -> str:
    """Both axes: lines across at the ticks of `y`, numbers beside and below, labels.

    `names` stand below x = 1, 2, ... instead of numbers.
    """
    left, right, bottom, top = x.start, x.end, y.start, y.end
    rows = y.ticks(6) if grid else []
    ruled = "".join(f"M{px(left)} {px(y(value))}H{px(right)}" for value in rows)
    marks: list[tuple[float, str]] = [(value, told(value)) for value in x.ticks(6)]
    if names:
        every = max(1, ceil((wide(names) + 8) * len(names) / (right - left)))
        known = [(float(at), name) for at, name in enumerate(names, 1)]
        marks = [mark for mark in known if x.low <= mark[0] <= x.high][::every]
    below = "".join(text(x(value), bottom + 14, label) for value, label in marks)
    beside = "".join(text(left - 6, y(value) + 4, told(value)) for value in rows)
    turned = f' transform="rotate(-90 11 {px((top + bottom) / 2)})"'
    return (
        f'<path class="r" d="{ruled}M{px(left)} {px(bottom)}H{px(right)}"/>'
        f'<g class="m">{below}{text((left + right) / 2, bottom + 31, short(x_label, 60))}'
        + (text(11, (top + bottom) / 2, short(y_label, 40), turned) if y_label else "")
        + f'</g><g class="e">{beside}</g>'
    )
