"""What is wrong with this recipe?  All answers at once, each with its key, found and wanted."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kdprobe.datasets.contract import DATASETS
from kdprobe.errors import KdprobeError
from kdprobe.models.contract import make_body
from kdprobe.registry import did_you_mean
from kdprobe.train.expression import ExpressionError, Term, parse_loss
from kdprobe.train.losses.contract import LOSSES
from kdprobe.train.settings import Recipe

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """One line of a RecipeError."""

    key: str  # dotted path
    text: str  # found, wanted


def shape_faults(error: ValidationError) -> list[Fault]:
    """Missing, unknown and ill-typed keys."""
    return [Fault(".".join(map(str, e["loc"])), _worded(e)) for e in error.errors()]


def _worded(error: ErrorDetails) -> str:
    *folder, key = error["loc"]
    if error["type"] == "missing":
        return "found nothing; wanted a value for this key"
    if error["type"] == "extra_forbidden":
        known = _known_keys(folder)
        return f"found an unknown key; wanted {_list(known)}{did_you_mean(str(key), known)}"
    wanted = error["msg"].replace("Input should", "").replace("be ", "", 1).strip()
    choices = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
    hint = did_you_mean(str(error["input"]), choices)
    return f"found {error['input']!r}; wanted {wanted}{hint}"


def _known_keys(folder: list[int | str]) -> list[str]:
    """The keys of the table at `folder`; names of arms are skipped on the way."""
    table: type[BaseModel] = Recipe
    for part in folder:
        if part in table.model_fields:
            table = _table_in(table.model_fields[str(part)].annotation) or table
    return list(table.model_fields)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_in, get_args(annotation))), None)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def meaning_faults(raw: Raw) -> list[Fault]:
    """Names that do not exist, settings that do not fit together; ill-typed ones are skipped."""
    checks: tuple[Callable[[Raw], Iterator[Fault]], ...] = (
        _seed_faults,
        _epoch_faults,
        _data_faults,
        _model_faults,
        _loss_faults,
    )
    return [fault for check in checks for fault in check(raw)]


def _at(raw: Raw, key: str, kind: type) -> Any:
    """The value at a dotted path, or None when it is missing or of another kind."""
    value: Any = raw
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _arms(raw: Raw) -> dict[str, Any]:
    arms: dict[str, Any] = _at(raw, "arms", dict) or {}
    return arms


def _seed_faults(raw: Raw) -> Iterator[Fault]:
    seeds = [seed for seed in _at(raw, "seeds", list) or [] if isinstance(seed, int)]
    if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
        yield Fault("seeds", f"found {seeds}; wanted each number once, and none below 0")
    for name in _arms(raw):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name == "teacher":
            wanted = "letters, digits, '_' and '-' (it names folders), and not 'teacher'"
            yield Fault(f"arms.{name}", f"found this name; wanted {wanted}")


def _epoch_faults(raw: Raw) -> Iterator[Fault]:
    epochs = _at(raw, "optimizer.epochs", int)
    saved = _at(raw, "checkpoints", list)
    yield from _checkpoint_faults("checkpoints", saved, epochs)
    own = _at(raw, "teacher.epochs", int) or epochs
    own_saved = _at(raw, "teacher.checkpoints", list)
    yield from _checkpoint_faults("teacher.checkpoints", own_saved, own)
    if saved and not own_saved and own != epochs:
        yield Fault(
            "teacher.checkpoints",
            f"found nothing; wanted a list of its own, for the teacher trains {own} epochs "
            f"and the arms {epochs}",
        )
    steps, milestones = _at(raw, "optimizer.schedule", str), _at(raw, "optimizer.milestones", list)
    if (steps == "steps") != bool(milestones):
        yield Fault(
            "optimizer.milestones",
            f"found {milestones} with schedule {steps!r}; wanted epochs where the schedule is "
            "'steps', and none elsewhere",
        )


def _checkpoint_faults(key: str, saved: list[Any] | None, epochs: int | None) -> Iterator[Fault]:
    if saved is None or epochs is None or not all(isinstance(epoch, int) for epoch in saved):
        return
    rising = saved == sorted(set(saved))
    if not rising or not saved or saved[0] != 0 or saved[-1] != epochs:
        yield Fault(key, f"found {saved}; wanted rising epochs from 0 to the last, {epochs}")


def _data_faults(raw: Raw) -> Iterator[Fault]:
    name, arguments = _at(raw, "data.name", str), _at(raw, "data.arguments", dict) or {}
    if name is None:
        return
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS)
        yield Fault("data.name", f"found {name!r}; wanted {_list(DATASETS)}{hint}")
        return
    knobs = inspect.signature(DATASETS[name].make)
    try:
        knobs.bind("train", **{"seed": 0, **arguments})
    except TypeError as error:
        known = [key for key in knobs.parameters if key != "split"]
        yield Fault("data.arguments", f"found {arguments} ({error}); wanted {_list(known)}")


def _model_faults(raw: Raw) -> Iterator[Fault]:
    for table in ("teacher", *(f"arms.{name}" for name in _arms(raw))):
        name = _at(raw, f"{table}.model.name", str)
        if name is None:
            continue
        try:
            with torch.device("meta"):  # builds no weights
                make_body(name, num_classes=2, **(_at(raw, f"{table}.model.arguments", dict) or {}))
        except KdprobeError as error:
            yield Fault(f"{table}.model", f"found {name!r}: {error}")


def _loss_faults(raw: Raw) -> Iterator[Fault]:
    teacher = _at(raw, "teacher.loss", str)
    if teacher is not None:
        yield from _expression_faults("teacher.loss", teacher, "the teacher has none itself")
    for name in _arms(raw):
        text = _at(raw, f"arms.{name}.loss", str)
        lack = "" if "teacher" in raw else "add a [teacher] table"
        if _at(raw, f"arms.{name}.role", str) == "baseline":
            lack = "a baseline learns from raw data; make its role 'student' or 'control'"
        if text is not None:
            yield from _expression_faults(f"arms.{name}.loss", text, lack)


def _expression_faults(key: str, text: str, lack: str) -> Iterator[Fault]:
    """`lack`: why no teacher can be looked at here; "" = one can."""
    try:
        terms = parse_loss(text)
    except ExpressionError as error:
        yield Fault(key, str(error))
        return
    for term in terms:
        at = f"position {term.position}: found {term.name!r}"
        if term.name not in LOSSES:
            hint = did_you_mean(term.name, LOSSES)
            yield Fault(key, f"{at}; wanted {_list(LOSSES)}{hint}")
            continue
        if lack and LOSSES[term.name].needs_teacher:
            yield Fault(key, f"{at}, which needs a teacher; {lack}")
        yield from _knob_faults(key, at, term)


def _knob_faults(key: str, at: str, term: Term) -> Iterator[Fault]:
    known = list(inspect.signature(LOSSES[term.name].make).parameters)
    unknown = [knob for knob, _ in term.knobs if knob not in known]
    for knob in unknown:
        hint = did_you_mean(knob, known)
        yield Fault(key, f"{at} with knob {knob!r}; wanted {_list(known) or 'none'}{hint}")
    if unknown:
        return
    try:
        LOSSES[term.name].make(**dict(term.knobs))
    except (KdprobeError, TypeError, ValueError) as error:
        yield Fault(key, f"{at}: {error}")
