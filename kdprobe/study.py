"""A study on disk becomes records: who was trained, from what, on which data.

No weight is loaded here: a `Study` knows where its checkpoints are and which networks they fit.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from kdprobe.errors import InputError
from kdprobe.manifest import DataEntry, NetworkEntry, Role, RunEntry, read_manifest
from kdprobe.pairing import arms_of, pairs_by_arm

SUFFIXES = (".safetensors", ".pt", ".pth")


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
    def controls(self) -> tuple[Run, ...]:
        """Learners that tell knowledge from regularisation, such as one with smoothed labels."""
        return tuple(run for run in self.runs if run.role == "control")

    @property
    def learners(self) -> tuple[Run, ...]:
        """Baselines, then students, then controls: all but the teacher."""
        return self.baselines + self.students + self.controls

    @property
    def arms(self) -> dict[str, tuple[Run, ...]]:
        """The learners by arm; runs of an arm differ by seed."""
        runs = self.learners
        return {
            arm: tuple(r for r in runs if r.arm == arm)
            for arm in dict.fromkeys(r.arm for r in runs)
        }

    def common_epochs(self) -> tuple[int, ...]:
        """The epochs at which every learner has a checkpoint."""
        grids = [set(run.epochs) for run in self.learners]
        return tuple(sorted(set.intersection(*grids))) if grids else ()

    def final(self, run: Run) -> Checkpoint:
        """The checkpoint at which `run` is compared: of the last epoch that all learners share.

        Its own last one for the teacher, and where learners share no epoch of training.
        """
        epochs = self.common_epochs()
        if run.role == "teacher" or not epochs or epochs[-1] == 0:
            return run.last
        return run.at(epochs[-1:])[0]

    def pairs(self) -> tuple[tuple[Run, Run], ...]:
        """(student, baseline) of the same seed, over all student arms."""
        return self._pairs(None)

    def control_pairs(self) -> tuple[tuple[Run, Run], ...]:
        """(student, control) of the same seed, over all arms of controls and of students."""
        arms = arms_of(self.runs, "control").values()
        return tuple(pair for others in arms for pair in self._pairs(others))

    def _pairs(self, others: Sequence[Run] | None) -> tuple[tuple[Run, Run], ...]:
        found = pairs_by_arm(self.runs, others).values()
        return tuple(pair for pairs in found for pair in pairs)


def load_study(folder: str | Path) -> Study:
    """Read the study in `folder`: its study.toml, or the study.json that the trainer wrote.

    Raises:
        InputError: there is no such folder or manifest, the manifest has faults (all are named),
            or a run has no checkpoint.
    """
    folder = Path(folder)
    entry = read_manifest(folder)
    runs = tuple(Run(run, _checkpoints(folder / (run.folder or run.id), run)) for run in entry.runs)
    return Study(entry.name, folder, entry.data, runs)


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
