"""A study of the arms that a test wants, at a toy size, and what a plain loop repeats it with."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from kdprobe.loading import build
from kdprobe.manifest import RunEntry
from kdprobe.models.contract import Network
from kdprobe.train.loop import train
from kdprobe.train.placing import placed
from kdprobe.train.plan import cohorts
from kdprobe.train.recipe import Recipe, settle
from kdprobe.train.views import batches

RESNET = {"name": "resnet8", "arguments": {"width": 2}}
VIT = {"name": "vit_3_8", "arguments": {"patch": 8}}  # without BatchNorm


def arm(loss=None, role="student", model=RESNET, **more):
    """A table of a recipe."""
    return {"role": role, "model": model, **({"loss": loss} if loss else {}), **more}


def recipe(arms, *changes, teacher=RESNET, **top) -> Recipe:
    """`changes` are overrides, ``key.path=value``; without a teacher where that is None."""
    raw = {
        "name": "toy",
        "seeds": [0],
        "data": {"name": "photodigits", "arguments": {"train": 40, "test": 16}, "shift": 1},
        "optimizer": {"lr": 0.05, "batch_size": 16, "epochs": 2},
        "arms": arms,
        **({"teacher": {"model": teacher}} if teacher else {}),
        **top,
    }
    return settle(raw, changes, title="toy")


def trained(folder, arms, *changes, progress=None, **more) -> Path:
    return train(recipe(arms, *changes, **more), out=folder, progress=progress)


def weights(folder, run, epoch):
    return load_file(Path(folder) / run / f"epoch-{epoch:04d}.safetensors")


def lines(folder, run="one-seed0"):
    return [json.loads(x) for x in (Path(folder) / run / "metrics.jsonl").read_text().splitlines()]


def record(folder, run="one-seed0"):
    return json.loads((Path(folder) / run / "run.json").read_text())


def same(one, other) -> bool:
    """Whether two state dicts have the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def far(one, other) -> float:
    """The largest difference of two state dicts."""
    assert one.keys() == other.keys()
    apart = (one[key].detach().double() - other[key].detach().double() for key in one)
    return max(float(each.abs().max()) for each in apart)


def network(folder, run="one-seed0", epoch=0) -> Network:
    """The network of a run at an epoch, ready to be trained by hand."""
    made = build(RunEntry.model_validate(record(folder, run)["run"]).network)
    made.body.load_state_dict(weights(folder, run, epoch))
    return made.train()


def place(wanted: Recipe):
    return placed(wanted, Path(), torch.device("cpu"), lambda event: None)


def seen(wanted: Recipe, epoch):
    """(pixels, target) of every step of an epoch of the last cohort, as the trainer shows them."""
    there, plan = place(wanted), cohorts(wanted)[-1]
    found = batches(there.share(plan), there.order(plan), epoch)
    return [(view.pixels, view.target) for view, _ in found]


def files(folder) -> dict[str, bytes]:
    """Every file of tensors, by its path."""
    found = sorted(Path(folder).rglob("*.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def untimed(folder, run="one-seed0"):
    """The lines of a run without what the clock says."""
    return [{**line, "seconds": 0, "images_per_second": 0} for line in lines(folder, run)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def dying(patch, count, *, after):
    """Die at the `count`-th renaming, just before or just after it; gives [renamings left]."""
    real, left = Path.replace, [count]

    def replace(self, target):
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Killed
        done = real(self, target)
        if left[0] == 0:
            raise Killed
        return done

    patch.setattr(Path, "replace", replace)
    return left
