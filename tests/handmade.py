"""A study written by hand: small networks with fresh weights, and the study.toml of a stranger."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from kdprobe.models.contract import make_body

NETWORK: dict[str, Any] = {"name": "resnet8", "num_classes": 10, "arguments": {"width": 2}}
DIGITS = {"name": "digits"}
PHOTODIGITS = {"name": "photodigits", "arguments": {"train": 32, "test": 32}}
FAST: dict[str, dict[str, Any]] = {
    "accuracy": {"images": 16},
    "fidelity": {"images": 16},
    "calibration": {"images": 16},
    "classes": {"images": 16},
    "forgetting": {"images": 16},
    "exaggeration": {"images": 16},
    "cka": {"images": 8, "batch": 8, "permutations": 9},
    "settling": {"images": 8, "batch": 4},
    "boundary": {"images": 4, "targets": 2, "steps": 2},
    "transferability": {"images": 8, "steps": 2},
    "similarity": {"images": 16, "k": 3, "permutations": 3, "half_samples": 2},
    "distilled": {"images": 16, "permutations": 3, "half_samples": 2},
    "dimension": {"images": 24, "k": 3, "half_samples": 2},
    "landscape": {"images": 4, "points": 3, "directions": 1, "pairs": 2, "plane_points": 3},
    "barrier": {"images": 8, "points": 3},
    "trajectory": {"images": 8, "points": 2},
    "basins": {"images": 8, "points": 2},
    "curvature": {"images": 4, "steps": 8, "top": 1, "draws": 2, "probes": 2, "probe_steps": 2},
    "reuse": {"images": 32},
    "readout": {"images": 32, "folds": 2},
    "discarding": {"probes": 4, "noises": 4, "grid": 8},
    "concept_vectors": {"images": 8, "examples": 24, "sets": 4},
    "attributions": {
        "images": 3,
        "methods": ("integrated_gradients", "grad_cam"),
        "steps": 2,
        "checks": 2,
        "squares": 2,
        "changes": 1,
    },
}


def run(id: str, role: str = "student", **more: Any) -> dict[str, Any]:
    """One [[runs]] entry."""
    return {"id": id, "role": role, "network": NETWORK, **more}


RUNS = (run("t", "teacher"), run("b", "baseline", seed=0), run("s", "student", seed=0))


def fresh(seed: int, network: Mapping[str, Any] = NETWORK) -> dict[str, Tensor]:
    """The state dict of an untrained network; torch's random state is kept."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = make_body(
            network["name"], num_classes=network["num_classes"], **network.get("arguments", {})
        )
    return dict(body.state_dict())


def write_study(
    folder: Path,
    runs: Sequence[Mapping[str, Any]] = RUNS,
    *,
    name: str = "hand",
    data: Mapping[str, Any] = DIGITS,
    epochs: Sequence[int] = (0, 1),
) -> Path:
    """A study.toml, and for every run its checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, runs, name=name, data=data)
    for entry in runs:
        place = folder / entry.get("folder", entry["id"])
        place.mkdir(parents=True, exist_ok=True)
        for epoch in epochs:
            learner = entry["role"] != "teacher"  # learners of one seed begin alike
            who = entry.get("seed") if learner and epoch == 0 else entry["id"]
            seed = random.Random(f"{who} {epoch}").randrange(1 << 30)
            weights = fresh(seed, NETWORK if "factory" in entry["network"] else entry["network"])
            save_file(weights, place / f"epoch-{epoch:04d}.safetensors")
    return folder


def write_manifest(folder: Path, runs: Sequence[Mapping[str, Any]], **head: Any) -> Path:
    """Only the study.toml."""
    lines = [f"{key} = {toml(value)}" for key, value in head.items()]
    for entry in runs:
        lines += ["", "[[runs]]", *(f"{key} = {toml(value)}" for key, value in entry.items())]
    file = folder / "study.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def toml(value: Any) -> str:
    """Inline TOML."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items())
        return "{ " + inside + " }"
    return json.dumps(value)


def spoil(file: Path) -> str:
    """Put a NaN into the first tensor of a checkpoint; its name."""
    from safetensors.torch import load_file

    tensors = load_file(file)
    name = next(key for key, value in tensors.items() if value.is_floating_point())
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, file)
    return name
