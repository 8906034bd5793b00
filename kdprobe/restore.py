"""Leave the network as you found it: weights, modes, gradient flags and random state are lent."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def lent(network: nn.Module) -> Iterator[None]:
    """Inside, change what you like; afterwards the network and torch's random state are as before.

    Weights are put back in place, so that references to them stay good.
    """
    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    modes = {module: module.training for module in network.modules()}
    flags = {parameter: parameter.requires_grad for parameter in network.parameters()}
    chance = torch.get_rng_state()
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in network.state_dict().items():
                value.copy_(weights[name])
        for module, mode in modes.items():
            module.training = mode
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
        torch.set_rng_state(chance)
