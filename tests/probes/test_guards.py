"""What no slope leads back from is refused by every estimator; what is merely dead is not."""

import math
from collections.abc import Callable

import pytest
import torch
from stage import Stage, linear, network, noise_images
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes.fit import fit
from kdprobe.probes.guards import must_answer
from kdprobe.probes.jacobian import jacobian
from kdprobe.probes.paper import paper

CELLS = {"units": "cells", "grid": 4, "lam": 6.0}
SMALL = {**CELLS, "noise": 0.00226, "relu": False}
LOOKS = {
    "paper": (paper, {**CELLS, "restarts": 1}),
    "fit": (
        fit,
        {**SMALL, "steps": 10, "draws": 4, "tolerance": 0.2, "match": "weight"},
    ),
    "jacobian": (
        jacobian,
        {**SMALL, "probes": 16, "noises": 4, "radius": 3**-0.5, "exact": 8},
    ),
    "jacobian at the image": (
        jacobian,
        {**SMALL, "probes": 16, "noises": 4, "radius": 0.0, "exact": 8},
    ),
}
BLUNT: dict[str, Callable[[Tensor], Tensor]] = {
    "round": lambda x: x.round(),
    "sign": lambda x: x.sign(),
    "floor, and more after it": lambda x: (3 * x.floor()).tanh(),
    "detached": lambda x: x.detach(),
    "argmax": lambda x: x.argmax(1, keepdim=True),
    "compared": lambda x: x > 0,
    "one hot": lambda x: nn.functional.one_hot(x.argmax(1), x.shape[1]).float(),
    "constant": lambda x: torch.ones_like(x),
    "learned constant": lambda x: torch.ones_like(x, requires_grad=True) * 2,
}


class Does(nn.Module):
    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x)


def look(estimator: str, net: Network, layers=("2",), count: int = 1, batch: int = 192):
    probe, knobs = LOOKS[estimator]
    stage = Stage(noise_images(count), {"net": net}, batch=batch)
    return probe(["net"], stage, layers=layers, **knobs)


@pytest.mark.parametrize("estimator", LOOKS)
@pytest.mark.parametrize("what", BLUNT)
@pytest.mark.parametrize("batch", [1, 192])
def test_a_layer_that_no_slope_leads_back_from_is_named(estimator, what, batch):
    net = network(nn.Sequential(*linear(20), Does(BLUNT[what])))
    with pytest.raises(InputError, match=r"no slope from layer '2'.*choose a layer before"):
        look(estimator, net, ("1", "2"), batch=batch)


@pytest.mark.parametrize("estimator", LOOKS)
def test_rounding_with_a_batch_norm_before_it_is_named(estimator):
    """It is refused before anything is folded."""
    parts = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Does(lambda x: x > 0)]
    with pytest.raises(InputError, match="no slope from layer '2'"):
        look(estimator, network(nn.Sequential(*parts)))


@pytest.mark.parametrize("estimator", LOOKS)
@pytest.mark.parametrize("bias", [-1e6, -1e30])
def test_a_dead_layer_is_no_error_and_has_no_numbers(estimator, bias):
    body = nn.Sequential(*linear(20), nn.ReLU())
    with torch.no_grad():
        body[1].bias.fill_(bias)
    found = look(estimator, network(body))
    if "energy/2" in found:
        assert torch.equal(found["energy/2"], torch.zeros(1, 16))
    else:
        assert found["entropy/2"].isnan().all()
        assert not found["converged/2"].any()


@pytest.mark.parametrize("estimator", LOOKS)
def test_rounding_that_lets_the_slope_through_is_let_through(estimator):
    straight = Does(lambda x: x + (x.round() - x).detach())
    found = look(estimator, network(nn.Sequential(*linear(20), straight)))
    assert len(found) > 0


def test_steps_far_larger_than_the_noise_are_found_out():
    """Noise of the least size never takes this rounding to the next step."""

    def see(x: Tensor) -> dict[str, Tensor]:
        return {"coarse": (x / 0.5).round().flatten(1)}

    x, chance = torch.full((1, 3, 8, 8), 0.5), torch.Generator().manual_seed(0)
    with pytest.raises(InputError, match="layer 'coarse'"):
        must_answer(see, x, 0.002, chance, 128)


def test_all_layers_are_asked_in_one_pass_of_few_rows_and_nothing_is_left_behind():
    asked: list[int] = []
    x = torch.rand(1, 3, 8, 8)

    def see(rows: Tensor) -> dict[str, Tensor]:
        asked.append(len(rows))
        return {"same": rows.flatten(1), "odd": rows.flatten(1) * math.inf}

    state = torch.random.get_rng_state()
    for rows in (1, 9, 4096):
        must_answer(see, x, 0.01, torch.Generator().manual_seed(0), rows)
    assert asked == [2, 9, 17]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not x.requires_grad
