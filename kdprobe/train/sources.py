"""Who teaches?  Any saved checkpoint: the teacher's, early or late, or a run's of another arm."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.loading import build, load_network
from kdprobe.manifest import NetworkEntry, RunEntry
from kdprobe.models.contract import Network
from kdprobe.study import Checkpoint, epoch_of
from kdprobe.taps import Tap
from kdprobe.train.adopting import taken_run
from kdprobe.train.chance import drawn_from
from kdprobe.train.crowd import autocast, look, teacher_taps
from kdprobe.train.layout import laid_out
from kdprobe.train.losses.contract import Batch, Outputs
from kdprobe.train.place import Place, logits_of, right_share
from kdprobe.train.plan import Cohort, RunPlan
from kdprobe.train.saving import BEST, checkpoint_file
from kdprobe.train.settings import Source


@dataclass(frozen=True)
class Looking:
    """A network that teaches, and the layers of it that somebody reads."""

    network: Network
    taps: Mapping[str, Tap]
    cached: Tensor | None = None  # (m, c) logits of all training images, where views stay the same

    def look(self, place: Place, batch: Batch) -> Outputs:
        """What it puts out for a batch; no gradient goes to its weights."""
        if self.cached is not None:
            return Outputs(self.cached[batch.rows], batch=batch)
        how = place.recipe.optimizer
        with torch.no_grad(), autocast(how, place.device):
            seen = look(self.network, self.taps, batch.pixels)

        def again(pixels: Tensor) -> Tensor:
            with autocast(how, place.device):
                logits: Tensor = self.network(pixels)
            return logits

        return Outputs(seen.logits, seen.features, batch=batch, look=again)


@dataclass(frozen=True)
class TeacherView(Looking):
    """A finished network, as its file holds it."""

    test_logits: Tensor = field(kw_only=True)  # (n, c)
    validation_logits: Tensor | None = field(kw_only=True)  # (n, c)
    record: Mapping[str, Any] = field(kw_only=True)  # for run.json


def source_file(folder: Path, source: Source, seed: int) -> Path:
    """The file of a source, for a run of `seed`.

    Raises:
        InputError: it was not saved.
    """
    name = "teacher" if source.run == "teacher" else reported(folder, source.run, seed)
    home = folder / name
    if source.epoch == "best":
        files = sorted((home / BEST).glob("*.safetensors"))
    else:
        files = sorted(home.glob("*.safetensors"))
    if isinstance(source.epoch, int):
        files = [file for file in files if file.name == checkpoint_file(int(source.epoch))]
    if not files:
        raise InputError(
            f"found no checkpoint of epoch {source.epoch!r} in {home}; wanted one to teach or to "
            "begin with: name an epoch that is saved"
        )
    return files[-1]


def reported(folder: Path, arm: str, seed: int) -> str:
    """The folder of an arm's run: of several networks, the one that validation chose."""
    first = f"{arm}-seed{seed}"
    for file in sorted(folder.glob(f"{first}.*/run.json")):
        if json.loads(file.read_text(encoding="utf-8")).get("chosen"):
            return file.parent.name
    return first


def network_of(place: Place, source: Source, seed: int) -> tuple[Network, Path]:
    """The network of a source, in evaluation mode, and its file."""
    file = source_file(place.folder, source, seed)
    with drawn_from(seed, "weights"):  # drawn and overwritten; the caller's state is kept
        at = Checkpoint(source.run, epoch_of(file), file, _entry(place, source))
        network = load_network(at, place.device)
    return laid_out(network), file


def untrained_view(place: Place, run: RunPlan) -> Looking:
    """A network like the teacher of a run, with fresh weights, in evaluation mode.

    Raises:
        UnknownName: it lacks a layer that a loss reads.
        InputError: a loss reads a layer, and only logits are cached.
    """
    network = build(_entry(place, run.teacher or Source())).to(place.device)
    laid_out(network.eval().requires_grad_(False))
    taps = teacher_taps(network, run.teacher_terms)
    if not place.recipe.cache_teacher:
        return Looking(network, taps)
    if taps:
        raise InputError(
            f"a loss reads {', '.join(taps)} of the teacher, and cache_teacher keeps only logits; "
            "set cache_teacher = false"
        )
    rows = place.train.rows.new_zeros(len(place.train))
    return Looking(network, taps, cached=network(place.train.pixels[:1])[rows])


def _entry(place: Place, source: Source) -> NetworkEntry:
    """How the network of a source is built; an adopted teacher brings that along."""
    teacher = place.recipe.teacher
    if source.run != "teacher" or teacher is None:
        return place.entry(place.recipe.arms[source.run].model)
    if teacher.model is not None:
        return place.entry(teacher.model)
    file = place.folder / "teacher" / "run.json"
    if not file.is_file():  # a dry run copies nothing
        return taken_run(teacher).entry.network
    record = json.loads(file.read_text(encoding="utf-8"))
    return RunEntry.model_validate(record["run"]).network


def teacher_view(place: Place, source: Source, seed: int, runs: Sequence[RunPlan]) -> TeacherView:
    """Read a teacher and measure it; `runs` look at it."""
    network, file = network_of(place, source, seed)
    terms = [term for run in runs for term in run.teacher_terms]
    logits = logits_of(network, place.test)
    record = {
        "run": file.relative_to(place.folder).parts[0],
        "file": file.relative_to(place.folder).as_posix(),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "test_accuracy": right_share(logits.argmax(1) == place.test.labels),
    }
    held = place.validation
    return TeacherView(
        network=network,
        taps=teacher_taps(network, terms),
        test_logits=logits,
        validation_logits=None if held is None else logits_of(network, held),
        record=record,
        cached=logits_of(network, place.train) if place.recipe.cache_teacher else None,
    )


def teachers(place: Place, cohort: Cohort) -> dict[Source, TeacherView]:
    """All teachers of a cohort, each with the layers that somebody reads."""
    asked: dict[Source, list[RunPlan]] = {}
    for run in cohort.runs:
        if run.teacher is not None:
            asked.setdefault(run.teacher, []).append(run)
    return {
        source: teacher_view(place, source, cohort.seed, runs) for source, runs in asked.items()
    }
