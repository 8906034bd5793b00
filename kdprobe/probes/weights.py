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
    files = [read_weights(subject.path) for subject in subjects]
    recorded = [json.loads(file.metadata.get("path_length", "{}")) for file in files]
    seen = {}
    for layer, scope in scopes.items():
        inside = [n for n in names if scope == WHOLE or n.startswith(f"{scope}.")]
        if not inside:
            raise InputError(f"layer {layer!r} has no weights under {scope!r}; choose another tap")
        points = torch.stack(
            [torch.cat([file.tensors[n].double().flatten() for n in inside]) for file in files]
        )
        steps = (points[1:] - points[:-1]).norm(dim=1)
        seen[f"moved/{layer}"] = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        seen[f"start/{layer}"] = points[0].norm()
        if all(scope in lengths for lengths in recorded):
            lengths = [float(lengths[scope]) for lengths in recorded]
            seen[f"stepped/{layer}"] = torch.tensor(lengths, dtype=torch.float64)
    return seen
