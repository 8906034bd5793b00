"""Where was I?  What a cohort needs to go on after an epoch, as safetensors, never pickled.

Weights and statistics in full precision, momentum, path lengths, and the epoch's number. Draws need
no state: each epoch has its own generators.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.formats.contract import read_weights
from kdprobe.train.learner import Learner
from kdprobe.train.writing import write_tensors


def save_state(path: Path, epoch: int, learners: Sequence[Learner]) -> None:
    """Replace the state file: `epoch` is over. Raises OutputError when it cannot be written."""
    tensors = {name: tensor for learner in learners for name, tensor in _parts(learner)}
    scales = [learner.scaler.state_dict() for learner in learners]  # empty but in float16
    facts = {"format": "kdprobe state", "epoch": str(epoch), "scales": json.dumps(scales)}
    write_tensors(path, tensors, facts)


def load_state(path: Path, learners: Sequence[Learner]) -> int:
    """Put the learners where they were; the epoch that was over then, or -1 without a file.

    Raises:
        InputError: the file is broken or not of this recipe.
    """
    if not path.is_file():
        return -1
    saved = read_weights(path)
    places = {name: tensor for learner in learners for name, tensor in _parts(learner)}
    shapes = {name: tensor.shape for name, tensor in saved.tensors.items()}
    if shapes != {name: tensor.shape for name, tensor in places.items()}:
        raise InputError(
            f"state {path} holds other tensors than this recipe trains; "
            "delete it to train these runs from their start"
        )
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(saved.tensors[name])
    for learner, scale in zip(learners, json.loads(saved.metadata["scales"]), strict=True):
        learner.scaler.load_state_dict(scale)
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
