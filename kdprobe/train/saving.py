"""How are weights kept?  By epoch, the best ones, what the losses own, and what was answered.

In the folder of a network: ``epoch-NNNN.safetensors``, ``adapters/`` (regressors, memory banks and
what else a loss owns, beside the first of several networks), ``best/`` (the epoch that validation
chose, with its own ``adapters/``, beside each network, for each has a best epoch of its own) and
``preds/`` (validation logits).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from kdprobe.errors import InputError
from kdprobe.files import told
from kdprobe.train.learner import Learner, Member
from kdprobe.train.place import Place, logits_of
from kdprobe.train.writing import write_tensors

BEST = "best"  # folder of the epoch that validation chose
ADAPTERS = "adapters"  # folder of what the losses own


def checkpoint_file(epoch: int) -> str:
    """The name of an epoch's file of weights."""
    return f"epoch-{epoch:04d}.safetensors"


def save_checkpoint(folder: Path, member: Member, epoch: int, precision: str) -> None:
    """Write the weights after `epoch`, with the path lengths so far in the metadata.

    Raises:
        InputError: a weight does not fit into float16.
        OutputError: the file cannot be written.
    """
    kind = torch.float16 if precision == "float16" else torch.float32
    tensors = {
        name: tensor.to(kind) if tensor.is_floating_point() else tensor
        for name, tensor in member.plain_state().items()
    }
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"run {member.id!r}, epoch {epoch}: found numbers in {name!r} that do not fit "
                f'{precision}; wanted finite ones; set precision = "float32" or lower optimizer.lr'
            )
    metadata = {
        "format": "kdprobe",
        "epoch": str(epoch),
        "precision": precision,
        "path_length": json.dumps(member.path.by_scope()),
    }
    write_tensors(folder / checkpoint_file(epoch), tensors, metadata)


def save_best(folder: Path, learner: Learner, member: Member, epoch: int, precision: str) -> None:
    """Write the best epoch so far, with what its losses own; then remove the one before."""
    home = folder / BEST
    _save_owned(home, learner, epoch)
    save_checkpoint(home, member, epoch, precision)
    with told(home):
        for file in home.rglob("*.safetensors"):
            if file.name != checkpoint_file(epoch):
                file.unlink()


def save_adapters(folder: Path, learner: Learner, epoch: int) -> None:
    """Write what the losses own where they own anything, beside the first of their networks."""
    if folder.name == learner.members[0].id:
        _save_owned(folder, learner, epoch)


def _save_owned(folder: Path, learner: Learner, epoch: int) -> None:
    own = learner.crowd.objective.state_dict()
    if own:
        write_tensors(folder / ADAPTERS / checkpoint_file(epoch), own, {"epoch": str(epoch)})


def save_predictions(folder: Path, place: Place, member: Member, epoch: int) -> None:
    """Write the validation logits in half precision, with the rows of the training set."""
    held = place.validation
    if held is not None:
        logits = logits_of(member.shown, held).half()
        found = {"logits": logits, "labels": held.labels, "rows": held.rows}
        write_tensors(folder / "preds" / checkpoint_file(epoch), found, {"epoch": str(epoch)})


def must_fit(run: str, body: torch.nn.Module, found: Mapping[str, torch.Tensor]) -> None:
    """Raise InputError where the weights to begin with are those of another network."""
    ours = {name: tuple(tensor.shape) for name, tensor in body.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in found.items()}
    odd = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    if odd:
        first = odd[0]
        raise InputError(
            f"run {run!r} begins with weights of another network: {first!r} has shape "
            f"{theirs.get(first)} there and {ours.get(first)} here ({len(odd)} tensors differ); "
            "wanted the same model: correct 'start' or 'model'"
        )
