"""A stage for probes and metrics: networks, images and sights that a test makes up itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdprobe.datasets.contract import Images
from kdprobe.manifest import DataEntry, NetworkEntry, Role, RunEntry
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.metrics.scope import Scope
from kdprobe.models.contract import Network
from kdprobe.probes.contract import Sight
from kdprobe.study import Checkpoint, Run, Study

LAYERS = ("pooled", "logits")
Answer = Callable[[Sight], Mapping[str, np.ndarray]]


@dataclass
class Stage:
    """Stands in for a Lens: the subjects are names of `networks`."""

    images: Images
    networks: Mapping[str, Network]
    batch: int = 128
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def network(self, subject: str) -> Network:
        return self.networks[subject]

    def rows(self, network: Network, images: Images) -> int:
        return self.batch

    def generator(self, purpose: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + purpose)

    def must_have_classes(self, subject: str, images: Images) -> None:
        pass


def noise_images(count: int, side: int = 8, seed: int = 0) -> Images:
    """Uniform noise with two classes; the object is the upper half."""
    chance = torch.Generator().manual_seed(seed)
    objects = torch.zeros(count, side, side, dtype=torch.bool)
    objects[:, : side // 2] = True
    pixels = torch.rand(count, 3, side, side, generator=chance)
    return Images(pixels, torch.arange(count) % 2, ("a", "b"), objects)


def network(body: nn.Module, std: Sequence[float] = (1.0, 1.0, 1.0)) -> Network:
    """`body` as a probe is lent it: evaluation mode, no gradients for its weights."""
    return Network(body, (0.5, 0.5, 0.5), std).eval().requires_grad_(False)


def linear(outputs: int, side: int = 8, seed: int = 0) -> nn.Sequential:
    """A linear map of all pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, outputs))


def cell_sums(values: Tensor, grid: int) -> Tensor:
    """(n, h, w) -> (n, g, g) sums of the cells, by slices."""
    high, wide = values.shape[1] // grid, values.shape[2] // grid
    rows = [
        [values[:, i * high : (i + 1) * high, j * wide : (j + 1) * wide].sum((1, 2)) for j in cells]
        for i, cells in enumerate([range(grid)] * grid)
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def made_up(
    runs: Sequence[tuple[str, Role, int | None]], epochs: Sequence[int] = (0, 1, 2)
) -> Study:
    """A study without files: (arm, role, seed) each; the id is the arm, then the seed."""
    entry = NetworkEntry(name="resnet8", num_classes=2)

    def run(arm: str, role: Role, seed: int | None) -> Run:
        id = arm if seed is None else f"{arm}{seed}"
        points = tuple(Checkpoint(id, e, Path(f"{id}-{e}"), entry, f"{id}-{e}") for e in epochs)
        return Run(RunEntry(id=id, role=role, arm=arm, seed=seed, network=entry), points)

    entries = tuple(run(*one) for one in runs)
    return Study("made up", Path("nowhere"), DataEntry(name="digits"), entries)


FAMILY: tuple[tuple[str, Role, int | None], ...] = (
    ("teacher", "teacher", None),
    ("baseline", "baseline", 0),
    ("kd", "student", 0),
)


def scope(study: Study, **changes: Any) -> Scope:
    """What an analysis would ask of a made-up study."""
    facts: dict[str, Any] = {
        "layers": LAYERS,
        "images": 4,
        "available": 1000,
        "dataset": "noise",
        "classes": ("a", "b"),
        "has_masks": True,
        "similarity_layers": {run.id: LAYERS for run in study.runs},
    }
    return Scope(**{**facts, **changes})


def ask(metric: str, study: Study, asked: Scope, answer: Answer, **settings: Any) -> Any:
    """The result of a metric when every sight shows what `answer` says."""
    inquiry = METRICS[metric].ask(study, asked, **settings)
    sights = next(inquiry)
    return conclude(inquiry, {sight: answer(sight) for sight in sights})
