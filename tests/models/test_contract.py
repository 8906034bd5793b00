"""A network is found by its name and sees normalised pixels."""

import pytest
import torch
from torch import nn

from kdprobe.errors import InputError, UnknownName
from kdprobe.models.contract import FAMILIES, Network, family, make_body


def test_a_name_selects_its_family_and_passes_its_numbers() -> None:
    @family("boxes", pattern=r"box_(\d+)", summary="for this test", examples=("box_3",))
    def box(side: str, *, num_classes: int, bias: bool = True) -> nn.Module:
        return nn.Linear(int(side), num_classes, bias=bias)

    try:
        body = make_body("box_3", num_classes=2, bias=False)
        assert body.weight.shape == (2, 3)
        assert body.bias is None
        assert FAMILIES["boxes"].make is box
    finally:
        del FAMILIES._entries["boxes"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'resnett20'; did you mean 'resnet20'\? Known: "):
        make_body("resnett20", num_classes=10)
    with pytest.raises(UnknownName, match=r"no model is called '#'\. Known: "):
        make_body("#", num_classes=10)


def test_an_unknown_knob_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"'vgg8' does not take these settings: .*'colour'"):
        make_body("vgg8", num_classes=10, colour="red")


def test_a_network_normalises_its_pixels() -> None:
    pixels = torch.rand(2, 3, 4, 4)
    network = Network(nn.Identity(), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    seen = network(pixels)
    assert torch.allclose(seen[:, 0], (pixels[:, 0] - 0.1) / 0.5)
    assert torch.allclose(seen[:, 2], (pixels[:, 2] - 0.3) / 2.0)


def test_mean_and_deviation_are_no_part_of_a_checkpoint() -> None:
    network = Network(nn.Linear(1, 1), mean=(0.0,) * 3, std=(1.0,) * 3)
    assert set(network.state_dict()) == {"body.weight", "body.bias"}


class Particular(nn.Module):
    def forward(self, x):
        raise ValueError("more than one image, please")


def test_what_the_users_own_network_raises_is_told() -> None:
    network = Network(Particular(), mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(
        InputError, match=r"failed on inputs of shape \(1, 3, 4, 4\).*ValueError: more"
    ):
        network(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory"), InputError("x")]
)
def test_want_of_memory_and_our_own_errors_pass_as_they_are(error) -> None:
    class Failing(nn.Module):
        def forward(self, x):
            raise error

    with pytest.raises(type(error)):
        Network(Failing(), mean=(0.0,) * 3, std=(1.0,) * 3)(torch.rand(1, 3, 4, 4))
