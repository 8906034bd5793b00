"""Which numbers stand in results?  One an each run, layer and part, by declared places.

`quantities.py` says where they stand; what is no number there is left out, never a zero.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kdprobe.comparing.quantities import QUANTITIES, Quantity
from kdprobe.results import MetricReport, Results

Bound = dict[str, str]  # coordinate -> name
NOT_COMPARED = ("epoch", "seed", "images", "steps", "draws", "pairs", "checkpoints")  # of others
_STEP = re.compile(r"\{(?P<each>\w+)\}|\[(?P<same>=?)(?P<axis>\w+):(?P<names>\w+)\]|(?P<key>.+)")


@dataclass(frozen=True)
class Scalar:
    """One number of one run."""

    quantity: Quantity
    run: str
    at: tuple[tuple[str, str], ...]  # coordinates other than the run: (("layer", "logits"),)
    value: float


def scalars(results: Results) -> list[Scalar]:
    """All numbers that can be compared, in the order of the metrics and their quantities."""
    found: list[Scalar] = []
    for report in results.metrics:
        if report.status == "measured":
            for quantity in quantities_of(report):
                found += _of_quantity(report, quantity)
    return found


def quantities_of(report: MetricReport) -> list[Quantity]:
    """The declared quantities of a metric, or those that its values show by themselves."""
    declared = [quantity for quantity in QUANTITIES if quantity.metric == report.key]
    return declared or list(_undeclared(report))


def _of_quantity(report: MetricReport, quantity: Quantity) -> Iterator[Scalar]:
    root: dict[str, Any] = dict(report.values)
    headline = root.get("headline")
    b = headline if isinstance(headline, int) else 0
    for bound, found in _walk(root, [root], quantity.place.split("/"), {}):
        try:
            value = quantity.take(found, b) if quantity.take else found
        except (KeyError, IndexError, TypeError, ValueError):
            continue  # values of another shape than declared: not this quantity
        if _is_number(value) and "run" in bound:
            at = tuple((name, where) for name, where in bound.items() if name != "run")
            yield Scalar(quantity, bound["run"], at, float(value))


def _walk(
    here: Any, above: list[dict[str, Any]], steps: list[str], bound: Bound
) -> Iterator[tuple[Bound, Any]]:
    """Everything that `steps` lead to from `here`; `above` are the objects passed, root first."""
    if not steps:
        yield bound, here
        return
    passed = [*above, here] if isinstance(here, dict) and here is not above[-1] else above
    for more, inner in _step(here, passed, steps[0], bound):
        yield from _walk(inner, passed, steps[1:], {**bound, **more})


def _step(
    here: Any, passed: list[dict[str, Any]], step: str, bound: Bound
) -> Iterator[tuple[Bound, Any]]:
    match = _STEP.fullmatch(step)
    assert match, step  # the last branch takes any text
    if each := match["each"]:
        yield from (({each: name}, inner) for name, inner in _named_items(here, each))
    elif axis := match["axis"]:
        names = _beside(passed, match["names"])
        pairs = zip(names, here, strict=False) if isinstance(here, list) else ()
        for name, inner in pairs:
            if not match["same"]:
                yield {axis: name}, inner
            elif bound.get(axis) == name:
                yield {}, inner
    else:
        yield from (({}, inner) for inner in _at(here, match["key"], passed[0]))


def _named_items(here: Any, field: str) -> Iterator[tuple[str, Any]]:
    if isinstance(here, dict):
        yield from here.items()
    elif isinstance(here, list):
        yield from (
            (str(item[field]), item) for item in here if isinstance(item, dict) and field in item
        )


def _beside(passed: list[dict[str, Any]], key: str) -> list[str]:
    """The list of names under `key` in the nearest object that has one."""
    for record in reversed(passed):
        if isinstance(names := record.get(key), list):
            return [str(name) for name in names]
    return []


def _at(here: Any, key: str, root: dict[str, Any]) -> Iterator[Any]:
    if isinstance(here, dict) and key in here:
        yield here[key]
    elif isinstance(here, list):
        place = root.get(key[1:]) if key.startswith("@") else int(key) if key.isdecimal() else None
        if isinstance(place, int) and place < len(here):
            yield here[place]


def _undeclared(report: MetricReport) -> Iterator[Quantity]:
    """What an unknown metric shows below ``runs``: numbers, and values with an error."""
    runs = report.values.get("runs")
    seen: dict[str, None] = {}
    for _, record in _named_items(runs, "run"):
        if isinstance(record, dict):
            seen |= dict.fromkeys(_number_fields(record))
    for field in seen:
        name = f"{report.key}.{field.removesuffix('/value')}"
        place = f"runs/{{run}}/{field}"
        yield Quantity(report.key, name, report.better, place, report.question)


def _number_fields(record: dict[str, Any]) -> Iterator[str]:
    for field, value in record.items():
        if "/" in field or field.endswith("_error") or field in NOT_COMPARED:
            continue
        if _is_number(value):
            yield field
        elif isinstance(value, dict) and _is_number(value.get("value")):
            yield f"{field}/value"


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)
