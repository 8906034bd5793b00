"""Do the arms of a recipe fit together?  Their networks, losses, and those they learn from."""

import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from pydantic import ValidationError

from kdprobe.errors import KdprobeError
from kdprobe.expression import ExpressionError, Term, parse_loss
from kdprobe.models.contract import make_body
from kdprobe.registry import did_you_mean
from kdprobe.train.keeping import kept_epochs
from kdprobe.train.losses.contract import LOSSES
from kdprobe.train.raw import Fault, Raw, arms_in, at, listed, listed_faults
from kdprobe.train.schedules import schedule_faults
from kdprobe.train.settings import Optimizer
from kdprobe.train.techniques.contract import technique_faults

NEAR = 5  # saved epochs that are named where another one is wanted


def model_faults(raw: Raw) -> Iterator[Fault]:
    """Networks that cannot be built, and techniques and frozen layers that are none."""
    for table in ("teacher", *(f"arms.{name}" for name in arms_in(raw))):
        yield from listed_faults(raw, f"{table}.techniques", technique_faults)
        name = at(raw, f"{table}.model.name", str)
        if name is None:
            continue
        arguments = at(raw, f"{table}.model.arguments", dict) or {}
        transforms = at(raw, f"{table}.model.transforms", list) or []
        try:
            modules = _modules_of(name, json.dumps([arguments, transforms], default=repr))
        except (KdprobeError, TypeError) as error:
            yield Fault(f"{table}.model", f"found {name!r}: {error}")
            continue
        yield from _frozen_faults(raw, table, modules)


@lru_cache(maxsize=64)  # the arms of a recipe mostly have one network
def _modules_of(name: str, how: str) -> tuple[str, ...]:
    """The module paths of a network; `how` holds its arguments and transforms as JSON."""
    arguments, transforms = json.loads(how)
    with torch.device("meta"):  # builds no weights
        body = make_body(name, num_classes=2, transforms=transforms, **arguments)
    return tuple(path for path, _ in body.named_modules())


def _frozen_faults(raw: Raw, table: str, modules: Sequence[str]) -> Iterator[Fault]:
    for stage in at(raw, f"{table}.stages", list) or []:
        frozen = stage.get("freeze", []) if isinstance(stage, dict) else []
        for path in frozen if isinstance(frozen, list) else []:
            if path not in modules:
                hint = did_you_mean(str(path), modules)
                wanted = f"a module path of the network{hint}"
                yield Fault(f"{table}.stages", f"found freeze {path!r}; wanted {wanted}")


def loss_faults(raw: Raw) -> Iterator[Fault]:
    """Losses that cannot be read, do not exist, or need who is not there."""
    teacher = at(raw, "teacher.loss", str)
    if teacher is not None:
        yield from _expression_faults("teacher.loss", teacher, "the teacher has none itself")
    for name in arms_in(raw):
        table = f"arms.{name}"
        other = at(raw, f"{table}.teacher.run", str) or "teacher"
        lack = "" if "teacher" in raw or other != "teacher" else "add a [teacher] table"
        if at(raw, f"{table}.role", str) == "baseline":
            lack = "a baseline learns from raw data; make its role 'student' or 'control'"
        alone = (at(raw, f"{table}.together", int) or 1) == 1
        for key, text in _expressions(raw, table):
            yield from _expression_faults(key, text, lack, alone=alone)


def _expressions(raw: Raw, table: str) -> Iterator[tuple[str, str]]:
    """Every loss of an arm, with its key."""
    own, stages = at(raw, f"{table}.loss", str), at(raw, f"{table}.stages", list) or []
    if own is not None:
        yield f"{table}.loss", own
    for place, stage in enumerate(stages):
        text = stage.get("loss") if isinstance(stage, dict) else None
        if isinstance(text, str):
            yield f"{table}.stages.{place}.loss", text


def arm_faults(raw: Raw) -> Iterator[Fault]:
    """Arms with no loss or two, and those that learn from what is not there."""
    teacher = at(raw, "teacher", dict)
    if teacher is not None and bool(teacher.get("model")) == bool(teacher.get("study")):
        yield Fault("teacher", "found no model, or both model and study; wanted one of the two")
    known = set(arms_in(raw)) | ({"teacher"} if raw.get("teacher") else set())
    wants: dict[str, set[str]] = {}
    for name, arm in arms_in(raw).items():
        table = f"arms.{name}"
        if isinstance(arm, dict) and (arm.get("loss") is None) == (not arm.get("stages")):
            yield Fault(table, "found no loss, or both loss and stages; wanted one of the two")
        if at(raw, f"{table}.share", str) and (at(raw, f"{table}.together", int) or 1) < 2:
            yield Fault(f"{table}.share", "found one network; wanted together = 2 or more")
        if at(raw, f"{table}.share", str):
            for text in at(raw, f"{table}.techniques", list) or []:
                if str(text).startswith("prune"):
                    wanted = "none beside share: every branch would cut the shared layers again"
                    yield Fault(f"{table}.techniques", f"found {text!r}; wanted {wanted}")
        wants[name] = set()
        for key in ("teacher", "start"):
            source = at(raw, f"{table}.{key}", dict)
            if source is not None:
                run = source.get("run", "teacher")
                yield from _source_faults(raw, f"{table}.{key}", source, run, known)
                wants[name] |= {run} - {"teacher"}
    while wants and (ready := {name for name, runs in wants.items() if not runs & set(wants)}):
        wants = {name: runs for name, runs in wants.items() if name not in ready}
    for name in wants:
        yield Fault(f"arms.{name}", f"found arms that wait for each other: {listed(wants)}")


def _source_faults(
    raw: Raw, key: str, source: Raw, run: Any, known: Iterable[str]
) -> Iterator[Fault]:
    if run == "teacher" and not raw.get("teacher") and not key.endswith(".start"):
        return  # nobody is looked at; a loss that wants one is told of elsewhere
    if run not in known:
        hint = did_you_mean(str(run), known)
        yield Fault(f"{key}.run", f"found {run!r}; wanted {listed(sorted(known))}{hint}")
    epoch, saved = source.get("epoch", "last"), _saved(raw, run)
    if isinstance(epoch, int) and saved is not None and epoch not in saved:
        near = sorted(sorted(saved, key=lambda one: abs(one - epoch))[:NEAR])
        yield Fault(f"{key}.epoch", f"found {epoch}; wanted a saved one: {listed(map(str, near))}")
    if epoch == "best" and at(raw, "data.validation", float) == 0:
        yield Fault(f"{key}.epoch", "found 'best'; wanted data.validation above 0")


def _saved(raw: Raw, run: Any) -> Sequence[int] | None:
    """The epochs that a run keeps; None where another study has them, or nobody can tell."""
    teacher = (at(raw, "teacher", dict) or {}) if run == "teacher" else {}
    try:
        how = Optimizer.model_validate_json(json.dumps(raw.get("optimizer"), default=str))
    except ValidationError:
        return None  # told with the other shapes
    asked = teacher.get("checkpoints") or raw.get("checkpoints")
    epochs = teacher.get("epochs") or how.epochs
    if teacher.get("study") or not isinstance(epochs, int):
        return None
    found = kept_epochs(tuple(asked) if isinstance(asked, list) else asked, epochs, how)
    return found if all(isinstance(epoch, int) for epoch in found) else None


def _expression_faults(key: str, text: str, lack: str, *, alone: bool = True) -> Iterator[Fault]:
    """`lack`: why no teacher can be looked at here; "" = one can. `alone`: a single network."""
    try:
        terms = parse_loss(text)
    except ExpressionError as error:
        yield Fault(key, str(error))
        return
    for term in terms:
        at = f"position {term.position}: found {term.name!r}"
        if term.name not in LOSSES:
            hint = did_you_mean(term.name, LOSSES)
            yield Fault(key, f"{at}; wanted {listed(LOSSES)}{hint}")
            continue
        if lack and LOSSES[term.name].needs_teacher:
            yield Fault(key, f"{at}, which needs a teacher; {lack}")
        if alone and LOSSES[term.name].needs_company:
            yield Fault(key, f"{at}, which needs other networks; set together = 2 or more")
        if term.schedule is not None:
            yield from (Fault(key, f"{at}: {told}") for told in schedule_faults(term.schedule))
        yield from _knob_faults(key, at, term)


def _knob_faults(key: str, at: str, term: Term) -> Iterator[Fault]:
    known = list(inspect.signature(LOSSES[term.name].make).parameters)
    unknown = [knob for knob, _ in term.knobs if knob not in known]
    for knob in unknown:
        hint = did_you_mean(knob, known)
        yield Fault(key, f"{at} with knob {knob!r}; wanted {listed(known) or 'none'}{hint}")
    if unknown:
        return
    try:
        LOSSES[term.name].make(**dict(term.knobs))
    except (KdprobeError, TypeError, ValueError) as error:
        yield Fault(key, f"{at}: {error}")
