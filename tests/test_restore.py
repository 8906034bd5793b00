"""A network that was lent comes back as it was, whatever happened inside."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from kdprobe.restore import lent


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    built = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    built[1].eval()
    built[0].bias.requires_grad_(False)
    return built


def ransack(network: nn.Module) -> None:
    network.train()
    network(torch.rand(4, 3, 5, 5))  # moves BatchNorm's statistics and draws for the dropout
    network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(7).add_(1)
            parameter.requires_grad_(not parameter.requires_grad)


def state(network: nn.Module):
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    flags = [parameter.requires_grad for parameter in network.parameters()]
    return weights, [module.training for module in network.modules()], flags


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_everything_is_put_back(network, error):
    (weights, modes, flags), chance = state(network), torch.get_rng_state()
    places = [parameter.data_ptr() for parameter in network.parameters()]
    with pytest.raises(error) if error else nullcontext(), lent(network):
        ransack(network)
        assert not torch.equal(network[1].running_mean, weights["1.running_mean"])
        assert not torch.equal(torch.get_rng_state(), chance)
        if error:
            raise error
    after = state(network)
    assert all(torch.equal(after[0][name], weights[name]) for name in weights)
    assert after[1:] == (modes, flags)
    assert torch.equal(torch.get_rng_state(), chance)
    assert [parameter.data_ptr() for parameter in network.parameters()] == places
