"""How heavy is a term by now?  A share of its weight that changes as the epochs pass.

    warmup(epochs=20)              min(t / epochs, 1)
    until(epoch)                   1 while t < epoch, then 0
    after(epoch)                   0 while t < epoch, then 1
    ramp(start=1, end=0, over=1)   straight from start to end over the share `over` of the training
    sigmoid(epochs=80)             exp(-5 max(1 - t / epochs, 0)^2)

Here t is the number of epochs passed, fractions counted. In a loss expression a schedule stands
behind its term: ``cross_entropy + kd(T=4)@until(epoch=20)``.

Source: Zhao et al. 2022, arXiv:2203.08679 (warmup, in the released code); Laine and Aila 2017,
arXiv:1610.02242 (sigmoid).
"""

import inspect
import math
from collections.abc import Callable, Iterator

from kdprobe.errors import InputError
from kdprobe.expression import Call
from kdprobe.registry import did_you_mean


def warmup(passed: float, total: float, *, epochs: float = 20) -> float:
    """From 0 to 1 in a straight line over the first `epochs`."""
    return min(passed / _number("epochs", epochs, "above 0"), 1.0)


def until(passed: float, total: float, *, epoch: float) -> float:
    """1 before `epoch` epochs have passed, then 0."""
    return float(passed < _number("epoch", epoch, "above 0"))


def after(passed: float, total: float, *, epoch: float) -> float:
    """0 before `epoch` epochs have passed, then 1."""
    return float(passed >= _number("epoch", epoch, "above 0"))


def ramp(
    passed: float, total: float, *, start: float = 1.0, end: float = 0.0, over: float = 1.0
) -> float:
    """From `start` to `end` in a straight line over the first `over` of all epochs."""
    start, end = _number("start", start, "from 0"), _number("end", end, "from 0")
    if _number("over", over, "above 0") > 1:
        raise InputError(f"found over={over}; wanted a share of the training, at most 1")
    way = min(passed / (over * total), 1.0)
    return start + (end - start) * way


def sigmoid(passed: float, total: float, *, epochs: float = 80) -> float:
    """From exp(-5) to 1 along half a bell over the first `epochs`."""
    left = max(1 - passed / _number("epochs", epochs, "above 0"), 0.0)
    return math.exp(-5 * left**2)


SCHEDULES: dict[str, Callable[..., float]] = {
    make.__name__: make for make in (after, ramp, sigmoid, until, warmup)
}


def share_of(schedule: Call | None, passed: float, total: float) -> float:
    """The share of a term's weight when `passed` of `total` epochs are over; 1 without a schedule.

    Raises:
        InputError: a knob has a senseless value. Names are checked by `schedule_faults`.
    """
    if schedule is None:
        return 1.0
    return SCHEDULES[schedule.name](passed, total, **dict(schedule.knobs))


def schedule_faults(schedule: Call) -> Iterator[str]:
    """What is wrong with a schedule: its name, its knobs or their values; found and wanted."""
    at = f"position {schedule.position}: found schedule {schedule.name!r}"
    if schedule.name not in SCHEDULES:
        yield f"{at}; wanted {', '.join(SCHEDULES)}{did_you_mean(schedule.name, SCHEDULES)}"
        return
    knobs = _knobs(schedule.name)
    told = dict(schedule.knobs)
    unknown = [name for name in told if name not in knobs]
    missing = [name for name, needed in knobs.items() if needed and name not in told]
    for name in unknown:
        hint = did_you_mean(name, knobs)
        yield f"{at} with knob {name!r}; wanted {', '.join(knobs)}{hint}"
    for name in missing:
        yield f"{at} without knob {name!r}; wanted it, such as {schedule.name}({name}=20)"
    if unknown or missing:
        return
    try:
        share_of(schedule, 0, 1)
    except InputError as error:
        yield f"{at}: {error}"


def _knobs(name: str) -> dict[str, bool]:
    """The knobs of a schedule, and whether they must be given."""
    found = inspect.signature(SCHEDULES[name]).parameters.values()
    own = [knob for knob in found if knob.kind is knob.KEYWORD_ONLY]
    return {knob.name: knob.default is knob.empty for knob in own}


def _number(name: str, value: float, wanted: str) -> float:
    """`value` where it is a finite number "above 0" or "from 0"; else raises InputError."""
    sound = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not sound or not 0 <= value < math.inf or (wanted == "above 0" and value == 0):
        raise InputError(f"found {name}={value!r}; wanted a number {wanted}")
    return value
