"""How far did the weights walk?  Distances along the checkpoints of one run, layer by layer."""

import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.formats.contract import read_weights
from kdprobe.loading import build
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import find_taps

WHOLE = ""  # the scope of all weights


@probe("weights", version=1)
def weights(
    subjects: Sequence[Checkpoint], lens: Lens, *, layers: Sequence[str]
) -> Mapping[str, Tensor]:
    """Path of the weights behind every layer L, and of all weights (L = "").

    Returns per L: moved/L (k,) length of the path from checkpoint to checkpoint up to each, start/L
    () norm of the first checkpoint's weights; and where the trainer recorded it, stepped/L (k,)
    length of the path summed over every optimiser step up to each checkpoint.
    """
    network = build(subjects[0].network, lens.allowed)
    names = [name for name, _ in network.body.named_parameters()]
    scopes = {WHOLE: WHOLE} | {n: t.weights for n, t in find_taps(network.body, layers).items()}
    inside = {layer: _inside(layer, scope, names) for layer, scope in scopes.items()}
    recorded: list[dict[str, float]] = []
    steps: dict[str, list[Tensor]] = {layer: [] for layer in scopes}
    before: Mapping[str, Tensor] = {}
    for subject in subjects:  # two checkpoints are in memory at a time
        file = read_weights(subject.path)
        recorded.append(json.loads(file.metadata.get("path_length", "{}")))
        for layer, members in inside.items():
            steps[layer].append(_distance(file.tensors, before, members))
        before = file.tensors
    seen = {}
    for layer, scope in scopes.items():
        walked = torch.stack(steps[layer])
        seen[f"start/{layer}"] = walked[0]
        seen[f"moved/{layer}"] = torch.cat([walked.new_zeros(1), walked[1:].cumsum(0)])
        if all(scope in lengths for lengths in recorded):
            lengths = [float(lengths[scope]) for lengths in recorded]
            seen[f"stepped/{layer}"] = torch.tensor(lengths, dtype=torch.float64)
    return seen


def _inside(layer: str, scope: str, names: Sequence[str]) -> list[str]:
    found = [name for name in names if scope == WHOLE or name.startswith(f"{scope}.")]
    if not found:
        raise InputError(f"layer {layer!r} has no weights under {scope!r}; choose another tap")
    return found


def _distance(
    after: Mapping[str, Tensor], before: Mapping[str, Tensor], names: Sequence[str]
) -> Tensor:
    """Distance between two checkpoints over the parameters `names`; from 0 where there is none."""
    norms = [
        (after[name].double() - (before[name].double() if before else 0)).norm() for name in names
    ]
    total: Tensor = torch.stack(norms).norm()
    return total
