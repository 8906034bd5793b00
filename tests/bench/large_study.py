"""A study too large to be measured in a bench, in two parts: one look, and the reckoning of all.

Looks are independent and begin anew with every checkpoint, so one of them has the memory of all; it
takes inputs 32 at a time and probes one after another, so a few of both have the memory of many,
but for the maps, 36 MiB of 1,000 images. The reckoning reads maps that were drawn, all of them.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from kdprobe.datasets.contract import Images
from kdprobe.manifest import DataEntry, NetworkEntry, RunEntry
from kdprobe.metrics.contract import METRICS, as_values, conclude
from kdprobe.metrics.scope import Discarding, Scope
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.contract import PROBES, Sight
from kdprobe.probes.lens import Lens
from kdprobe.store import Store, digest_of
from kdprobe.study import Checkpoint, Run, Study

IMAGES, LOOKED_AT, CHECKPOINTS, GRID = 1000, 64, 15, 16
LAYERS = ("stage1", "stage2", "stage3", "logits")
ENTRY = NetworkEntry(name="resnet56", num_classes=10)


class Lent(Lens):
    def network(self, checkpoint: Network) -> Network:
        return checkpoint


def say_peak() -> None:
    """The most memory that this process has had since it began its own program, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def looking() -> None:
    """Some images of one checkpoint, all layers, with few probes."""
    torch.manual_seed(0)
    network = Network(make_body("resnet56", num_classes=10), (0.5,) * 3, (0.25,) * 3)
    network.eval().requires_grad_(False)
    pixels = torch.rand(IMAGES, 3, 32, 32)
    images = Images(pixels, torch.zeros(IMAGES, dtype=torch.int64), ("a",) * 10, None)
    some = images.sample(LOOKED_AT, seed=0)
    lens = Lent(torch.device("cpu"), DataEntry(name="digits"), LOOKED_AT, 0, chosen=some)
    cut = Discarding(probes=4, noises=4)
    PROBES["jacobian"].look([network], lens, layers=LAYERS, **cut.asked)


class Drawn(dict):
    """What was seen, read from the store when it is asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, wanted: Sight) -> dict[str, np.ndarray]:
        return self.store.get(digest_of(repr(wanted)))


def reckoning() -> None:
    """Concepts, simultaneity and stability of a baseline and a student."""
    runs = []
    for role in ("baseline", "student"):
        points = tuple(
            Checkpoint(role, epoch, Path(f"{role}-{epoch}"), ENTRY, f"{role}-{epoch}")
            for epoch in range(CHECKPOINTS)
        )
        runs.append(Run(RunEntry(id=role, role=role, seed=0, network=ENTRY), points))
    study = Study("large", Path(), DataEntry(name="digits"), tuple(runs))
    scope = Scope(
        LAYERS, IMAGES, IMAGES, "digits", ("a",) * 10, True, {run.id: LAYERS for run in runs}
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for key in ("concepts", "simultaneity", "stability"):
            inquiry = METRICS[key].ask(study, scope)
            for wanted in next(inquiry):
                store.put(digest_of(repr(wanted)), _made_up(wanted))
            as_values(conclude(inquiry, Drawn(store)))


def _made_up(wanted: Sight) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    if wanted.probe == "weights":
        scopes = ["", *LAYERS]
        walked = {f"moved/{name}": np.arange(CHECKPOINTS, dtype=float) for name in scopes}
        return walked | {f"start/{name}": np.array(1.0) for name in scopes}
    if wanted.probe == "pictures":
        size = (IMAGES, 32, 32)
        return {
            "sizes": np.full((IMAGES, GRID**2), 4.0, np.float32),
            "coverage": (chance.random((IMAGES, GRID**2)) < 0.2).astype(np.float32),
            "labels": np.zeros(IMAGES, np.int64),
            "pixels": np.zeros((*size, 3), np.uint8),
            "object": np.zeros(size, np.uint8),
            "members": np.zeros(size, np.int32),
        }
    seen = {}
    for layer in LAYERS:
        groups = chance.gamma(2.0, size=(8, IMAGES, GRID**2)).astype(np.float32)
        seen |= {f"groups/{layer}": groups, f"energy/{layer}": groups.mean(0)}
    return seen
