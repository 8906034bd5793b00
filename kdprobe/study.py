"""A study on disk becomes records: who was trained, from what, on which data.

`kdprobe train` writes a study.json and a run.json a run; a hand-written study.toml of a few lines
describes checkpoints that came from elsewhere. Both become the same `Study`, in which no weight is
loaded yet.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from kdprobe.errors import InputError
from kdprobe.pairing import pairs_by_arm

Role = Literal["teacher", "baseline", "student"]
M = TypeVar("M", bound="Entry")
SUFFIXES = (".safetensors", ".pt", ".pth")


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
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # of the pixels in [0, 1], as in training
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _one_source(self) -> "NetworkEntry":
        if bool(self.name) == bool(self.factory):
            raise ValueError("give either name (a bundled model) or factory (module:function)")
        return self

    @model_validator(mode="after")
    def _colours(self) -> "NetworkEntry":
        if not {len(self.mean), len(self.std)} <= {1, 3} or min(self.std) <= 0:
            raise ValueError("give mean and std of one or of three channels, std above 0")
        return self

    @property
    def label(self) -> str:
        """A short name for tables: the model with its settings."""
        knobs = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return (self.name or self.factory) + (f" ({knobs})" if knobs else "")


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
    schedule: str = ""  # of the learning rate, in words; compared between student and baseline
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


@dataclass(frozen=True)
class Checkpoint:
    """One file of weights, and the network they belong to."""

    run: str
    epoch: int
    path: Path
    network: NetworkEntry
    digest: str = ""  # SHA-256 of the file, known after `sealed`

    def sealed(self) -> "Checkpoint":
        """The same checkpoint with its digest. Raises InputError when the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(
                f"cannot read checkpoint {self.path} ({error.strerror}); "
                "restore the file or take it out of the study"
            ) from error
        return replace(self, digest=digest)


@dataclass(frozen=True)
class Run:
    """One training run: its checkpoints in the order of training."""

    entry: RunEntry
    checkpoints: tuple[Checkpoint, ...]

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def role(self) -> Role:
        return self.entry.role

    @property
    def arm(self) -> str:
        return self.entry.arm or self.entry.role

    @property
    def seed(self) -> int | None:
        return self.entry.seed

    @property
    def epochs(self) -> tuple[int, ...]:
        return tuple(checkpoint.epoch for checkpoint in self.checkpoints)

    @property
    def last(self) -> Checkpoint:
        return self.checkpoints[-1]

    def at(self, epochs: Collection[int]) -> tuple[Checkpoint, ...]:
        """The checkpoints of `epochs`, in order."""
        return tuple(c for c in self.checkpoints if c.epoch in epochs)


@dataclass(frozen=True)
class Study:
    """Runs that belong together, and the data they are looked at on."""

    name: str
    folder: Path
    data: DataEntry
    runs: tuple[Run, ...]

    @property
    def teacher(self) -> Run | None:
        return next((run for run in self.runs if run.role == "teacher"), None)

    @property
    def baselines(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.role == "baseline")

    @property
    def students(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.role == "student")

    @property
    def arms(self) -> dict[str, tuple[Run, ...]]:
        """Baselines and students by arm; runs of an arm differ by seed."""
        runs = self.baselines + self.students
        return {
            arm: tuple(r for r in runs if r.arm == arm)
            for arm in dict.fromkeys(r.arm for r in runs)
        }

    def common_epochs(self) -> tuple[int, ...]:
        """The epochs at which every baseline and student has a checkpoint."""
        grids = [set(run.epochs) for run in self.baselines + self.students]
        return tuple(sorted(set.intersection(*grids))) if grids else ()

    def final(self, run: Run) -> Checkpoint:
        """The checkpoint at which `run` is compared: of the last epoch that all learners share.

        Its own last one for the teacher, and where learners share no epoch.
        """
        epochs = self.common_epochs()
        if run.role == "teacher" or not epochs:
            return run.last
        return run.at(epochs[-1:])[0]

    def pairs(self) -> tuple[tuple[Run, Run], ...]:
        """(student, baseline) of the same seed, over all student arms."""
        return tuple(pair for pairs in pairs_by_arm(self.runs).values() for pair in pairs)


def load_study(folder: str | Path) -> Study:
    """Read the study in `folder`: its study.toml, or the study.json that the trainer wrote.

    Raises:
        InputError: there is no such folder or manifest, the manifest has faults (all are named),
            or a run has no checkpoint.
    """
    folder = Path(folder)
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
    runs = tuple(Run(run, _checkpoints(folder / (run.folder or run.id), run)) for run in entry.runs)
    return Study(entry.name, folder, entry.data, runs)


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
        raise InputError(f"{file} has {len(faults)} faults:\n" + "\n".join(faults)) from error
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
    teachers = [run.id for run in entry.runs if run.role == "teacher"]
    if len(teachers) > 1:
        raise InputError(
            f"{folder}: found {len(teachers)} teachers ({', '.join(teachers)}); wanted one; "
            "make a study of each teacher"
        )


def _checkpoints(folder: Path, run: RunEntry) -> tuple[Checkpoint, ...]:
    files: set[Path] = set()
    for pattern in run.checkpoints or [f"*{suffix}" for suffix in SUFFIXES]:
        found = _matches(folder, pattern)
        files |= found
        if run.checkpoints and not found:
            raise InputError(
                f"run {run.id!r}: found no file {folder / pattern}; restore it or correct "
                "'checkpoints' in the manifest"
            )
    if not files:
        raise InputError(
            f"run {run.id!r}: found no checkpoint in {folder}; "
            f"wanted files ending in {', '.join(SUFFIXES)}"
        )
    numbered = sorted((epoch_of(file), file) for file in files)
    for (epoch, first), (other, second) in pairwise(numbered):
        if epoch == other:
            raise InputError(
                f"run {run.id!r}: found {first.name} and {second.name}, both of epoch {epoch} by "
                "their names; wanted one file an epoch: name them in 'checkpoints' in the manifest"
            )
    return tuple(Checkpoint(run.id, epoch, file, run.network) for epoch, file in numbered)


def _matches(folder: Path, pattern: str) -> set[Path]:
    try:
        return {file for file in folder.glob(pattern) if file.is_file()}
    except (ValueError, NotImplementedError):  # an empty or an absolute pattern
        return set()


def epoch_of(file: Path) -> int:
    """The last whole number in a file's name: ``epoch-0012.safetensors`` -> 12; 0 where none is."""
    numbers = re.findall(r"\d+", file.stem)
    return int(numbers[-1]) if numbers else 0
