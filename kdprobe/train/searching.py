"""Which network is best within a budget?  Depths and widths drawn at random, under several losses.

Of all pairs of a depth and a width, `count` different ones are drawn with equal chance among those
whose multiply-adds for one image are within the budget. Every candidate is trained with every loss,
from the same initial weights, so that the rankings by cross-entropy and by distillation can be held
against each other (`ranking.py`).

An arm is called ``d14w8-kd``: depth, width, loss. Under the first loss, the reference, which needs
no teacher, candidates are baselines; under others they are students where the loss looks at a
teacher, controls where it does not.

Source: Li and Talwalkar 2019, arXiv:1902.07638 (random search is a strong baseline of architecture
search).
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kdprobe.errors import InputError
from kdprobe.expression import ExpressionError, parse_loss
from kdprobe.models.contract import make_body
from kdprobe.models.cost import Cost, cost_of
from kdprobe.train.chance import drawn_from, generator
from kdprobe.train.losses.contract import LOSSES
from kdprobe.train.settings import Search


@dataclass(frozen=True)
class Candidate:
    """A network that was drawn."""

    name: str  # such as "d14w8"
    depth: int
    width: int
    model: dict[str, Any]  # the `model` of an arm
    cost: Cost


def candidates(search: Search) -> tuple[Candidate, ...]:
    """The networks of a search, the cheapest first; the same for the same table.

    Raises:
        UnknownName: no model has such a name.
        InputError: a place in the family's name is unknown, the family refuses a depth or a width,
            or fewer networks than wanted are within the budget.
    """
    grid = [(d, w) for d in dict.fromkeys(search.depths) for w in dict.fromkeys(search.widths)]
    order = torch.randperm(len(grid), generator=generator(search.seed, 0, "search")).tolist()
    fitting: list[Candidate] = []
    least = float("inf")
    for place in order:
        found = candidate(search, *grid[place])
        least = min(least, found.cost.macs)
        if found.cost.macs <= search.macs:
            fitting.append(found)
        if len(fitting) == search.count:
            return tuple(sorted(fitting, key=lambda one: (one.cost.macs, one.depth)))
    raise InputError(
        f"found {len(fitting)} of {len(grid)} networks {search.family!r} within "
        f"{search.macs:,.0f} multiply-adds; wanted {search.count}: raise macs (the cheapest needs "
        f"{least:,.0f}), lower count, or give more depths and widths"
    )


def candidate(search: Search, depth: int, width: int) -> Candidate:
    """One network and its cost. Raises as `candidates` does."""
    places = _places(search.family)
    knobs: dict[str, Any] = {} if "width" in places else {"width": width}
    name = search.family.format(depth=depth, width=width)
    with drawn_from(0, "search"):  # weights that nobody sees; the caller's state is kept
        body = make_body(name, num_classes=search.classes, **knobs)
    cost = cost_of(body, (3, search.side, search.side))
    model = {"name": name, "arguments": knobs}
    return Candidate(f"d{depth}w{width}", depth, width, model, cost)


def _places(family: str) -> set[str]:
    """Which of depth and width a name holds. Raises InputError where it holds anything else."""
    try:
        found = {field for _, field, _, _ in string.Formatter().parse(family) if field is not None}
    except ValueError:  # a brace too many
        found = set()
    if "depth" not in found or not found <= {"depth", "width"}:
        raise InputError(
            f"found family={family!r}; wanted a name with the place {{depth}}, and {{width}} where "
            'it holds the width, such as "resnet{depth}" or "wrn_{depth}_{width}"'
        )
    return found


def searched_arms(search: Search) -> dict[str, dict[str, Any]]:
    """The arms of a search as tables of a recipe, candidate by candidate.

    Raises as `candidates` does, and:
        InputError: a loss cannot be read, or the first one needs a teacher.
    """
    roles = _roles(search)
    return {
        f"{found.name}-{name}": {"role": roles[name], "model": found.model, "loss": loss}
        for found in candidates(search)
        for name, loss in search.losses.items()
    }


def _roles(search: Search) -> dict[str, str]:
    taught = {name: _looks_at_a_teacher(name, text) for name, text in search.losses.items()}
    first, *others = taught
    if taught[first]:
        raise InputError(
            f"found losses.{first}, the first one, with a teacher; wanted the reference first, one "
            'that learns from raw data, such as ce = "cross_entropy"'
        )
    roles = {name: "student" if taught[name] else "control" for name in others}
    return {first: "baseline", **roles}


def _looks_at_a_teacher(name: str, text: str) -> bool:
    """Losses of unknown names are told of elsewhere, with the arms that hold them."""
    try:
        terms = parse_loss(text)
    except ExpressionError as error:
        raise InputError(f"losses.{name}: {error}") from error
    return any(term.name in LOSSES and LOSSES[term.name].needs_teacher for term in terms)


def parted(arm: str, losses: Sequence[str]) -> tuple[str, str] | None:
    """``d14w8-kd`` -> (d14w8, kd), with one of `losses`; None where it is no arm of a search."""
    name, dash, loss = arm.partition("-")
    depth, width = name.removeprefix("d").partition("w")[::2]
    drawn = name.startswith("d") and depth.isdecimal() and width.isdecimal()
    return (name, loss) if dash and drawn and loss in losses else None
