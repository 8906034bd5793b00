"""What does a study say of itself?  The study.toml of a hand, or the study.json of the trainer.

`kdprobe train` writes a study.json and a run.json a run; a hand-written study.toml of a few lines
describes checkpoints that came from elsewhere. Both become the same `StudyEntry`.
"""

import json
import tomllib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from kdprobe.errors import InputError

Role = Literal["teacher", "baseline", "student", "control"]
M = TypeVar("M", bound="Entry")


class Entry(BaseModel):
    """A part of a manifest: frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __hash__(self) -> int:
        """Of the content: pydantic's own refuses dictionaries."""
        return hash(self.model_dump_json())


class NetworkEntry(Entry):
    """How to build a network: a bundled name, or a factory ``module:function`` of the user's."""

    name: str = ""
    factory: str = ""
    num_classes: int = Field(gt=0)
    classes: tuple[str, ...] = ()  # names of its outputs in order; default: as the data's
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    transforms: tuple[str, ...] = ()  # of a bundled network, such as "strip_skips", in order
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # of the pixels in [0, 1], as in training
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _one_source(self) -> "NetworkEntry":
        if bool(self.name) == bool(self.factory):
            raise ValueError("give either name (a bundled model) or factory (module:function)")
        if self.factory and self.transforms:
            raise ValueError("give transforms to a bundled model only; yours can change itself")
        return self

    @model_validator(mode="after")
    def _colours(self) -> "NetworkEntry":
        if not {len(self.mean), len(self.std)} <= {1, 3} or min(self.std) <= 0:
            raise ValueError("give mean and std of one or of three channels, std above 0")
        return self

    @model_validator(mode="after")
    def _named_classes(self) -> "NetworkEntry":
        if self.classes and len(set(self.classes)) != self.num_classes:
            raise ValueError("give each of the num_classes classes one name of its own, or none")
        return self

    @property
    def label(self) -> str:
        """A short name for tables: the model with its settings."""
        knobs = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        own = (self.name or self.factory) + (f" ({knobs})" if knobs else "")
        return ", ".join([own, *self.transforms])


class DataEntry(Entry):
    """Which images the networks are looked at on: a bundled data set or a factory."""

    name: str = ""
    factory: str = ""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> "DataEntry":
        if bool(self.name) == bool(self.factory):
            raise ValueError("give either name (a bundled data set) or factory (module:function)")
        return self


class RunEntry(Entry):
    """One training run of the study."""

    id: str = Field(min_length=1)
    folder: str = ""  # inside the study's folder; default: the id
    role: Role
    arm: str = ""  # runs of one arm differ by seed only; default: the role
    seed: int | None = None  # runs that share a seed share initial weights and data order
    network: NetworkEntry
    matched_layer: str = ""  # the layer on which the student was matched to the teacher
    schedule: str = ""  # of the learning rate, in words; compared between learners
    checkpoints: tuple[str, ...] = ()  # files or glob patterns in the run's folder; default: all
    status: Literal["finished", "running"] = "finished"


class StudyEntry(Entry):
    """A whole study.toml; the checkpoints of a run lie in the folder called like its id."""

    name: str = Field(min_length=1)
    data: DataEntry
    runs: tuple[RunEntry, ...] = Field(min_length=1)


class StudyIndex(Entry):
    """A study.json as the trainer writes it: each run's RunEntry is under "run" in its run.json."""

    schema_version: Literal[1] = 1
    name: str
    data: DataEntry
    runs: tuple[str, ...]  # folders


def read_manifest(folder: Path) -> StudyEntry:
    """The manifest in `folder`.

    Raises:
        InputError: there is none, or it has faults; all of them are named.
    """
    if not folder.is_dir():
        raise InputError(f"found no folder {folder}; wanted a study folder of checkpoints")
    if (folder / "study.toml").is_file():
        entry = _parse(StudyEntry, folder / "study.toml")
    elif (folder / "study.json").is_file():
        entry = _from_index(folder)
    else:
        raise InputError(
            f"found neither study.toml nor study.json in {folder}; write a study.toml that names "
            "the runs (see README, 'Your own checkpoints') or train with 'kdprobe train'"
        )
    _refuse_doubles(entry, folder)
    return entry


def _from_index(folder: Path) -> StudyEntry:
    index = _parse(StudyIndex, folder / "study.json")
    runs = tuple(_run_entry(folder / run / "run.json") for run in index.runs)
    return StudyEntry(name=index.name, data=index.data, runs=runs)


def _run_entry(file: Path) -> RunEntry:
    record = _text(file)
    try:
        return RunEntry.model_validate(json.loads(record)["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not a run record of kdprobe: {error}") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}; restore it or train again") from error


def _parse(model: type[M], file: Path) -> M:
    text = _text(file)
    try:
        data = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
        return model.model_validate(data)
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise InputError(f"{file} has {count}:\n" + "\n".join(faults)) from error
    except ValueError as error:
        raise InputError(f"{file} cannot be parsed: {error}; mend its syntax") from error


def _refuse_doubles(entry: StudyEntry, folder: Path) -> None:
    ids = [run.id for run in entry.runs]
    double = next((name for name in ids if ids.count(name) > 1), None)
    if double is not None:
        raise InputError(f"{folder}: two runs are called {double!r}; give each run its own id")
    twins = [(run.arm or run.role, run.seed) for run in entry.runs if run.seed is not None]
    twin = next((key for key in twins if twins.count(key) > 1), None)
    if twin is not None:
        raise InputError(
            f"{folder}: two runs of arm {twin[0]!r} have seed {twin[1]}; runs of an arm differ by "
            "their seed: give each its own, or its own arm"
        )
    roles: dict[str, Role] = {}
    for run in entry.runs:
        arm = run.arm or run.role
        if roles.setdefault(arm, run.role) != run.role:
            raise InputError(
                f"{folder}: arm {arm!r} holds runs of role {roles[arm]} and of role {run.role}; "
                "wanted one role an arm: give one of them another arm"
            )
    teachers = [run.id for run in entry.runs if run.role == "teacher"]
    if len(teachers) > 1:
        raise InputError(
            f"{folder}: found {len(teachers)} teachers ({', '.join(teachers)}); wanted one; "
            "make a study of each teacher"
        )
