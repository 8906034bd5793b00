"""Do the epochs of a recipe fit together?  Stages, checkpoints, milestones, and what validation
must decide.
"""

from collections.abc import Iterator
from typing import Any

from kdprobe.expression import parse_call
from kdprobe.train.raw import Fault, Raw, arms_in, at, listed
from kdprobe.train.techniques.contract import technique_faults


def epoch_faults(raw: Raw) -> Iterator[Fault]:
    """Epochs that are saved, trained or dropped at, but are none."""
    epochs = at(raw, "optimizer.epochs", int)
    saved = at(raw, "checkpoints", list)
    yield from _checkpoint_faults("checkpoints", saved, epochs)
    yield from _length_faults(raw, epochs)
    own = at(raw, "teacher.epochs", int) or epochs
    own_saved = at(raw, "teacher.checkpoints", list)
    yield from _checkpoint_faults("teacher.checkpoints", own_saved, own)
    if saved and not _has_own(raw) and own != epochs:
        yield Fault(
            "teacher.checkpoints",
            f"found nothing; wanted a list of its own, for the teacher trains {own} epochs "
            f"and the arms {epochs}",
        )
    steps, milestones = at(raw, "optimizer.schedule", str), at(raw, "optimizer.milestones", list)
    if (steps == "steps") != bool(milestones):
        yield Fault(
            "optimizer.milestones",
            f"found {milestones} with schedule {steps!r}; wanted epochs where the schedule is "
            "'steps', and none elsewhere",
        )


def _has_own(raw: Raw) -> bool:
    """Whether the teacher keeps epochs of its own, by a list or by a word."""
    return bool((at(raw, "teacher", dict) or {}).get("checkpoints"))


def _length_faults(raw: Raw, epochs: int | None) -> Iterator[Fault]:
    """Stages that do not fill the training, and what needs images for validation."""
    for name in arms_in(raw):
        stages = at(raw, f"arms.{name}.stages", list)
        found = [stage.get("epochs") for stage in stages or [] if isinstance(stage, dict)]
        lengths = [length for length in found if isinstance(length, int)]
        if lengths and epochs and len(lengths) == len(found) and sum(lengths) != epochs:
            told = " + ".join(map(str, lengths))
            yield Fault(f"arms.{name}.stages", f"found {told} epochs; wanted {epochs} together")
    if at(raw, "optimizer.patience", int):
        yield from _rounding_faults(raw)
        for name in arms_in(raw):
            if at(raw, f"arms.{name}.stages", list):
                wanted = "no optimizer.patience beside them: the first could end the run"
                yield Fault(f"arms.{name}.stages", f"found stages; wanted {wanted}")
    together = [name for name in arms_in(raw) if (at(raw, f"arms.{name}.together", int) or 1) > 1]
    needing = ["optimizer.patience"] if at(raw, "optimizer.patience", int) else []
    needing += [f"arms.{name}.together" for name in together]
    needing += ["predictions"] if raw.get("predictions") is True else []
    needing += ["search"] if raw.get("search") else []
    share = at(raw, "data", dict) or {}
    if needing and share.get("validation") == 0:
        wanted = f"a share above 0, for {listed(needing)} choose by it"
        yield Fault("data.validation", f"found 0; wanted {wanted}")


def _rounding_faults(raw: Raw) -> Iterator[Fault]:
    """A run that stops early never comes to where it was to be rounded, or pruned to the end."""
    for table in ("teacher", *(f"arms.{name}" for name in arms_in(raw))):
        for text in at(raw, f"{table}.techniques", list) or []:
            call = parse_call(text) if not list(technique_faults(text)) else None
            if call is None:
                continue
            knobs = dict(call.knobs)
            later = call.name == "prune" and (knobs.get("start") or knobs.get("end"))
            if later or knobs.get("after") is True:
                wanted = "no optimizer.patience beside it, for it is done only later"
                yield Fault(f"{table}.techniques", f"found {text!r}; wanted {wanted}")


def _checkpoint_faults(key: str, saved: list[Any] | None, epochs: int | None) -> Iterator[Fault]:
    if saved is None or epochs is None or not all(isinstance(epoch, int) for epoch in saved):
        return
    rising = saved == sorted(set(saved))
    if not rising or not saved or saved[0] != 0 or saved[-1] != epochs:
        yield Fault(key, f"found {saved}; wanted rising epochs from 0 to the last, {epochs}")
