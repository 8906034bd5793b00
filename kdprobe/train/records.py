"""What was done here?  The run record, the line a epoch, the weights, and the study's index.

Under the study's folder: ``study.json``, ``recipe.json``, and for each run a folder with
``run.json``, ``metrics.jsonl`` and ``epoch-NNNN.safetensors``.
"""

import json
import logging
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kdprobe.errors import InputError
from kdprobe.files import told, write_whole
from kdprobe.manifest import StudyIndex
from kdprobe.train.learner import Learner
from kdprobe.train.plan import Cohort, cohorts, data_entry
from kdprobe.train.settings import Recipe
from kdprobe.train.writing import append_line, write_json, write_tensors

log = logging.getLogger("kdprobe")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit, device and threads: what decides whether bits repeat."""
    packages = ("torch", "numpy", "kdprobe")
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "git": _commit(Path(__file__).parent),
        "device": _spoken(device),
        "threads": torch.get_num_threads(),
    }


def _spoken(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _commit(folder: Path) -> dict[str, Any] | None:
    """The commit of kdprobe's own sources; None where they are not under git."""

    def git(*words: str) -> str:
        call = ("git", "-C", str(folder), *words)
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        dirty = bool(git("status", "--porcelain", "--untracked-files=no", "."))
        return {"sha": git("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.CalledProcessError):
        return None


def claim(folder: Path, recipe: Recipe) -> None:
    """Make `folder` the place of this recipe.

    Raises:
        InputError: it holds a study of another recipe, or one that was not trained here.
        OutputError: it cannot be written.
    """
    wanted = recipe.model_dump(mode="json")
    file = folder / "recipe.json"
    if file.is_file():
        found = _read(file)
        if found != wanted:
            raise InputError(
                f"found a study of another recipe in {folder} ({_difference(found, wanted)}); "
                "wanted the same recipe to go on with; choose another folder with --out, "
                "or delete this one"
            )
    elif any((folder / name).exists() for name in ("study.json", "study.toml")):
        raise InputError(
            f"found a study without recipe.json in {folder}; wanted an empty folder; "
            "choose another one with --out"
        )
    else:
        write_json(file, wanted)


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {file} ({error}); delete the folder to train anew"
        ) from error


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    ours, theirs = _flat(found), _flat(wanted)
    keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    told_first = [f"{key}: found {ours.get(key)!r}, wanted {theirs.get(key)!r}" for key in keys[:3]]
    return "; ".join(told_first) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        found |= inner or {f"{prefix}{key}": value}
    return found


def finished(folder: Path, cohort: Cohort) -> bool:
    """Whether every run of the cohort is marked finished."""
    files = [folder / run.id / "run.json" for run in cohort.runs]
    return all(
        file.is_file() and _read(file).get("run", {}).get("status") == "finished" for file in files
    )


def write_run(
    folder: Path, record: Mapping[str, Any], *, resumed: Mapping[str, Any] | None
) -> None:
    """Write the run.json of a run that now trains; one that goes on keeps its first record."""
    file = folder / "run.json"
    kept = _read(file) if resumed and file.is_file() else record
    again = [resumed] if resumed else []
    write_json(file, {**kept, "resumed": [*kept.get("resumed", []), *again]})


def warn_of_change(folder: Path, now: Mapping[str, Any]) -> None:
    """Log what differs between the environment that a run began in and `now`'s."""
    file = folder / "run.json"
    first = _read(file) if file.is_file() else now
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


def mark_finished(folder: Path) -> None:
    """Set the status in a run's run.json."""
    record = _read(folder / "run.json")
    record["run"]["status"] = "finished"
    write_json(folder / "run.json", record)


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


def checkpoint_file(epoch: int) -> str:
    """The name of an epoch's file of weights."""
    return f"epoch-{epoch:04d}.safetensors"


def save_checkpoint(folder: Path, learner: Learner, epoch: int, precision: str) -> None:
    """Write the weights after `epoch`, with the path lengths so far in the metadata.

    Raises:
        InputError: a weight does not fit into float16.
        OutputError: the file cannot be written.
    """
    kind = torch.float16 if precision == "float16" else torch.float32
    tensors = {
        name: tensor.to(kind) if tensor.is_floating_point() else tensor
        for name, tensor in learner.network.body.state_dict().items()
    }
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"run {learner.run.id!r}, epoch {epoch}: found numbers in {name!r} that do not fit "
                f'{precision}; wanted finite ones; set precision = "float32" or lower optimizer.lr'
            )
    metadata = {
        "format": "kdprobe",
        "epoch": str(epoch),
        "precision": precision,
        "path_length": json.dumps(learner.path.by_scope()),
    }
    write_tensors(folder / checkpoint_file(epoch), tensors, metadata)


def write_index(folder: Path, recipe: Recipe) -> None:
    """Replace study.json: the runs that have begun, so that a study can be read while it grows."""
    ids: Sequence[str] = [run.id for cohort in cohorts(recipe) for run in cohort.runs]
    begun = tuple(name for name in ids if (folder / name / checkpoint_file(0)).is_file())
    index = StudyIndex(name=recipe.name, data=data_entry(recipe), runs=begun)
    write_json(folder / "study.json", index.model_dump(mode="json"))


def forget_state(folder: Path) -> None:
    """Remove what was needed for going on only."""
    with told(folder / "state"):
        if (folder / "state").is_dir():
            shutil.rmtree(folder / "state")
