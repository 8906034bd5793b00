"""What was done here?  The run record, the line a epoch, the weights, and the study's index.

Under the study's folder: ``study.json``, ``recipe.json``, and for each network a folder with
``run.json``, ``metrics.jsonl`` and ``epoch-NNNN.safetensors``, and where there are such things
``best/`` (the epoch of the best validation), ``adapters/`` (what the losses own, also in ``best/``)
and ``preds/`` (validation logits). What is needed for going on only is in ``state/`` until the
study is finished.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kdprobe.errors import InputError
from kdprobe.files import told, write_whole
from kdprobe.loading import load_network
from kdprobe.manifest import RunEntry, StudyIndex
from kdprobe.study import Checkpoint
from kdprobe.train.choosing import best_epoch
from kdprobe.train.environment import now
from kdprobe.train.learner import Member
from kdprobe.train.measuring import measured
from kdprobe.train.place import Place, logits_of
from kdprobe.train.plan import RunPlan, cohorts, data_entry
from kdprobe.train.saving import BEST, checkpoint_file
from kdprobe.train.settings import Recipe
from kdprobe.train.writing import append_line, write_json

log = logging.getLogger("kdprobe")


def read_record(file: Path) -> dict[str, Any]:
    """A JSON file of the trainer. Raises InputError where it cannot be read."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {file} ({error}); delete the folder to train anew"
        ) from error


def finished(folder: Path, run: RunPlan) -> bool:
    """Whether every network of the run is marked finished."""
    files = [folder / name / "run.json" for name in run.members]
    return all(
        file.is_file() and read_record(file).get("run", {}).get("status") == "finished"
        for file in files
    )


def write_run(
    folder: Path, record: Mapping[str, Any], *, resumed: Mapping[str, Any] | None
) -> None:
    """Write the run.json of a run that now trains; one that goes on keeps its first record."""
    file = folder / "run.json"
    kept = read_record(file) if resumed and file.is_file() else record
    again = [resumed] if resumed else []
    write_json(file, {**kept, "resumed": [*kept.get("resumed", []), *again]})


def warn_of_change(folder: Path, now: Mapping[str, Any]) -> None:
    """Log what differs between the environment that a run began in and `now`'s."""
    file = folder / "run.json"
    first = read_record(file) if file.is_file() else now
    changes = [
        f"{key} {first.get(key)} then, {now[key]} now"
        for key in ("threads", "device", "versions")
        if first.get(key) != now[key]
    ]
    if changes:
        log.warning(
            "run %s goes on in another environment than it began in (%s): its weights may differ "
            "in their last bits from those of uninterrupted training",
            folder.name,
            "; ".join(changes),
        )


def mark_finished(folder: Path, told: Mapping[str, Any]) -> None:
    """Set the status in a run.json, and put `told` beside: what is known at the end only."""
    record = read_record(folder / "run.json")
    record["run"]["status"] = "finished"
    write_json(folder / "run.json", {**record, **told, "ended": now()})


def reported_numbers(
    place: Place, member: Member, lines: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Of the last epoch and of the best in validation, side by side; None without validation."""
    keys = ("epoch", "validation_accuracy", "validation_loss", "test_accuracy", "test_loss")
    last, best = {key: lines[-1][key] for key in keys}, best_epoch(lines)
    if best is None:
        return {"last": last, "best_validation": None}
    line = next(line for line in lines if line["epoch"] == best)
    found = {key: line[key] for key in keys}
    if found["test_accuracy"] is None:
        file = place.folder / member.id / BEST / checkpoint_file(best)
        entry = RunEntry.model_validate(read_record(place.folder / member.id / "run.json")["run"])
        network = load_network(Checkpoint(member.id, best, file, entry.network), place.device)
        numbers = measured(logits_of(network, place.test), place.test.labels)
        found |= {"test_accuracy": numbers["accuracy"], "test_loss": numbers["loss"]}
    return {"last": last, "best_validation": found}


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    file = folder / "metrics.jsonl"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def cut_metrics(folder: Path, last_epoch: int) -> None:
    """Drop the lines after `last_epoch` and any torn one. Raises OutputError on a full disk."""
    file = folder / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    kept = [line for line in lines if 0 <= _epoch(line) <= last_epoch]
    write_whole(file, b"".join(kept))


def _epoch(line: bytes) -> int:
    try:
        return int(json.loads(line)["epoch"]) if line.endswith(b"\n") else -1
    except (ValueError, KeyError, TypeError):
        return -1


def add_metrics(folder: Path, line: Mapping[str, Any]) -> None:
    """Append an epoch's line to metrics.jsonl."""
    append_line(folder / "metrics.jsonl", line)


def digest_of_rows(rows: torch.Tensor) -> str:
    """SHA-256 of (m,) int64 row numbers."""
    return hashlib.sha256(rows.contiguous().numpy().tobytes()).hexdigest()


def write_index(folder: Path, recipe: Recipe) -> None:
    """Replace study.json: the runs that have begun, so that a study can be read while it grows.

    Of networks that are trained together it names the one that validation chose; the others stay
    in their folders.
    """
    runs = [run for cohort in cohorts(recipe) for run in cohort.runs]
    adopted = ["teacher"] if recipe.teacher is not None and recipe.teacher.study else []
    shown = [*adopted, *(_shown(folder, run.members) for run in runs)]
    begun = tuple(name for name in shown if (folder / name / "run.json").is_file())
    index = StudyIndex(name=recipe.name, data=data_entry(recipe), runs=begun)
    write_json(folder / "study.json", index.model_dump(mode="json"))


def _shown(folder: Path, members: Sequence[str]) -> str:
    """The chosen one of several networks; the first while nothing is chosen."""
    records = {name: folder / name / "run.json" for name in members[1:]}
    known = (
        name for name, file in records.items() if file.is_file() and read_record(file).get("chosen")
    )
    return next(known, members[0])


def forget_state(folder: Path) -> None:
    """Remove what was needed for going on only."""
    with told(folder / "state"):
        shutil.rmtree(folder / "state")
