"""What is wrong with this recipe?  All answers at once, each with its key, found and wanted."""

import inspect
import re
from collections.abc import Callable, Iterator

from kdprobe.datasets.contract import DATASETS
from kdprobe.registry import did_you_mean
from kdprobe.train.arm_faults import arm_faults, loss_faults, model_faults
from kdprobe.train.augmenting import augmentation_faults
from kdprobe.train.corrupting import corruption_faults
from kdprobe.train.epoch_faults import epoch_faults
from kdprobe.train.raw import Fault, Raw, arms_in, at, listed, listed_faults


def meaning_faults(raw: Raw) -> list[Fault]:
    """Names that do not exist, settings that do not fit together; ill-typed ones are skipped."""
    checks: tuple[Callable[[Raw], Iterator[Fault]], ...] = (
        _seed_faults,
        epoch_faults,
        _data_faults,
        model_faults,
        loss_faults,
        arm_faults,
    )
    return [fault for check in checks for fault in check(raw)]


def _seed_faults(raw: Raw) -> Iterator[Fault]:
    seeds = [seed for seed in at(raw, "seeds", list) or [] if isinstance(seed, int)]
    if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
        yield Fault("seeds", f"found {seeds}; wanted each number once, and none below 0")
    for name in arms_in(raw):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name == "teacher":
            wanted = "letters, digits, '_' and '-' (it names folders), and not 'teacher'"
            yield Fault(f"arms.{name}", f"found this name; wanted {wanted}")


def _data_faults(raw: Raw) -> Iterator[Fault]:
    yield from listed_faults(raw, "data.corrupt", corruption_faults)
    yield from listed_faults(raw, "data.augment", augmentation_faults)
    moving = bool(at(raw, "data.augment", list)) or bool(at(raw, "data.shift", int))
    if raw.get("cache_teacher") is True and moving:
        yield Fault(
            "cache_teacher",
            "found true beside data.shift or data.augment; wanted views that stay the same: "
            "leave these out, or set cache_teacher = false",
        )
    name, arguments = at(raw, "data.name", str), at(raw, "data.arguments", dict) or {}
    if name is None:
        return
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS)
        yield Fault("data.name", f"found {name!r}; wanted {listed(DATASETS)}{hint}")
        return
    knobs = inspect.signature(DATASETS[name].make)
    try:
        knobs.bind("train", **{"seed": 0, **arguments})
    except TypeError as error:
        known = [key for key in knobs.parameters if key != "split"]
        yield Fault("data.arguments", f"found {arguments} ({error}); wanted {listed(known)}")
