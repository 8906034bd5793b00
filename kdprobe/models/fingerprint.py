"""Is this network the one it is called?  Its parameters counted, its keys and shapes hashed.

Names are ambiguous between zoos (``MobileNetV2``, ``vgg13``); a checkpoint fits the network whose
keys and shapes it has. The values of all bundled examples are kept in `_fingerprints.py`, so a
change that would leave old checkpoints without their network is noticed.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import nn

from kdprobe.models._fingerprints import KNOWN
from kdprobe.models.contract import make_body

CLASSES = 100  # at which the values are kept


@dataclass(frozen=True)
class Fingerprint:
    """What identifies an architecture, whatever its weights."""

    parameters: int
    keys: str  # first 16 hexadecimal digits of the SHA-256 of sorted "key shape" lines


def fingerprint(body: nn.Module) -> Fingerprint:
    """The fingerprint of `body`: all of its state dict, buffers too, is in the hash."""
    shapes = {key: tuple(value.shape) for key, value in body.state_dict().items()}
    lines = [f"{key} {'x'.join(map(str, shape))}" for key, shape in sorted(shapes.items())]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Fingerprint(sum(p.numel() for p in body.parameters()), digest[:16])


def built(name: str) -> Fingerprint:
    """The fingerprint of the bundled network `name` at 100 classes, found without memory for it.

    Raises UnknownName or InputError as `make_body`.
    """
    with torch.device("meta"):
        return fingerprint(make_body(name, num_classes=CLASSES))


def registered(name: str) -> Fingerprint | None:
    """The fingerprint of the bundled example `name` as it is kept; None for all other names."""
    return Fingerprint(*KNOWN[name]) if name in KNOWN else None
