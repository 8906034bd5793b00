"""Where was I?  What a run needs to go on after an epoch, as safetensors, never pickled.

Weights and statistics in full precision, momentum, path lengths, and the epoch's number. Draws need
no state: each epoch has its own generators. Each run has a file of its own, so that those who train
together may be others when it goes on.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.formats.contract import read_weights
from kdprobe.train.learner import Learner
from kdprobe.train.writing import write_tensors


def state_file(folder: Path, run: str) -> Path:
    """Where the state of a run is kept until the study in `folder` is finished."""
    return folder / "state" / f"{run}.safetensors"


def save_state(path: Path, epoch: int, learner: Learner) -> None:
    """Replace the state file: `epoch` is over. Raises OutputError when it cannot be written."""
    scale = learner.scaler.state_dict()  # empty but in float16
    facts = {"format": "kdprobe state", "epoch": str(epoch), "scale": json.dumps(scale)}
    write_tensors(path, dict(_parts(learner)), facts)


def load_state(path: Path, learner: Learner) -> int:
    """Put the learner where it was; the epoch that was over then, or -1 without a file.

    Raises:
        InputError: the file is broken or not of this recipe.
    """
    if not path.is_file():
        return -1
    saved = read_weights(path)
    places = dict(_parts(learner))
    shapes = {name: tensor.shape for name, tensor in saved.tensors.items()}
    if shapes != {name: tensor.shape for name, tensor in places.items()}:
        raise InputError(
            f"state {path} holds other tensors than this recipe trains; "
            "delete it to train this run from its start"
        )
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(saved.tensors[name])
    learner.scaler.load_state_dict(json.loads(saved.metadata["scale"]))
    for member in learner.members:
        member.path.restart()
    return int(saved.metadata["epoch"])


def _parts(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a learner that a step changes."""
    name = learner.run.id
    for place, member in enumerate(learner.members):
        own = f"{name}/weights/{place}"
        for key, tensor in member.network.body.state_dict().items():
            yield f"{own}/{key}", tensor
        if member.average is not None:
            for key, tensor in member.average.body.state_dict().items():
                yield f"{name}/average/{place}/{key}", tensor
        yield f"{name}/path/{place}", member.path.lengths
    for key, tensor in learner.crowd.objective.state_dict().items():
        yield f"{name}/loss/{key}", tensor
    for place, parameter in enumerate(learner.optimizer.param_groups[0]["params"]):
        for key, tensor in learner.optimizer.state[parameter].items():
            yield f"{name}/{key}/{place}", tensor
