"""Taps find their layers, copy what they see, and come off again."""

import pytest
import torch
from torch import Tensor, nn

from kdprobe.errors import InputError, UnknownName
from kdprobe.taps import Tap, find_taps, flat, shapes, watch


class Small(nn.Module):
    """A network with an in-place ReLU, to catch taps that look too late."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Linear(4, 2)
        self.taps = {"stage1": Tap("act", "post", "first"), "logits": Tap("", "raw", "last")}

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.act(self.first(x)))
        return out


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    return Small()


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_names_of_the_network_come_first_and_paths_work_too(model: Small) -> None:
    found = find_taps(model, ["logits", "first", "act"])
    assert list(found) == ["logits", "first", "act"]
    assert found["logits"] == Tap("", "raw", "last")
    assert found["first"] == Tap("first", "raw", "first")
    assert found["act"] == Tap("act", "raw", "")


def test_an_unknown_layer_is_answered_with_the_nearest(model: Small) -> None:
    with pytest.raises(
        UnknownName, match=r"no layer 'stagel'; did you mean 'stage1'\? wanted stage1"
    ):
        find_taps(model, ["stagel"])
    with pytest.raises(UnknownName, match="no layer '#'; wanted logits, a module path"):
        find_taps(nn.Linear(1, 1), ["#"])


def test_what_was_seen_is_not_changed_by_a_later_in_place_step(model: Small) -> None:
    x = torch.randn(64, 3)
    with watch(model, find_taps(model, ["first", "stage1", "logits"])) as seen:
        logits = model(x)
    assert torch.equal(seen["first"], model.first(x))
    assert seen["first"].min() < 0
    assert torch.equal(seen["stage1"], model.first(x).relu())
    assert torch.equal(seen["logits"], logits)


def test_a_watched_tensor_stays_in_the_graph(model: Small) -> None:
    with watch(model, {"first": Tap("first")}) as seen:
        model(torch.rand(2, 3))
    seen["first"].sum().backward()
    assert model.first.weight.grad is not None


def test_every_forward_pass_fills_the_dictionary_anew(model: Small) -> None:
    with watch(model, model.taps) as seen:
        model(torch.rand(2, 3))
        model(torch.rand(5, 3))
    assert len(seen["logits"]) == 5


def test_hooks_come_off_even_after_an_error(model: Small) -> None:
    with pytest.raises(RuntimeError, match="shapes"), watch(model, model.taps):
        model(torch.rand(2, 99))
    assert hooks(model) == 0
    with pytest.raises(KeyError), watch(model, {"logits": Tap(""), "gone": Tap("nowhere")}):
        pass
    assert hooks(model) == 0


def test_a_layer_that_returns_no_tensor_is_refused() -> None:
    model = nn.Sequential(Pair())
    with (
        watch(model, {"pair": Tap("0")}),
        pytest.raises(InputError, match="'pair' returns tuple, wanted one tensor"),
    ):
        model(torch.rand(1))


def test_flat_gives_a_row_an_image() -> None:
    assert flat(torch.rand(5, 2, 3, 4)).shape == (5, 24)
    assert flat(torch.rand(5, 2)).shape == (5, 2)
    assert flat(torch.rand(5)).shape == (5, 1)


@pytest.mark.parametrize("training", [True, False])
def test_shapes_leave_the_network_as_they_found_it(model: Small, training: bool) -> None:
    model.train(training)
    assert shapes(model, model.taps, torch.rand(9, 3)) == {"stage1": (4,), "logits": (2,)}
    assert model.training is training
    assert hooks(model) == 0


def test_a_network_without_taps_of_its_own_has_its_logits() -> None:
    body = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    x = torch.randn(4, 3)
    with watch(body, find_taps(body, ["logits", "0"])) as seen:
        answer = body(x)
    assert torch.equal(seen["logits"], answer)
    assert torch.equal(seen["0"], body[0](x))


def test_a_layer_that_is_not_called_or_called_twice_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle, self.busy = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.busy(self.busy(x))
            return out

    body, x = Odd(), torch.randn(2, 3)
    with watch(body, find_taps(body, ["idle"])) as seen:
        body(x)
        with pytest.raises(InputError, match="'idle' is not called on these images"):
            seen["idle"]
    with (
        pytest.raises(InputError, match="'busy' is called more than once"),
        watch(body, find_taps(body, ["busy"])),
    ):
        body(x)


def test_every_pass_is_seen_anew() -> None:
    body = nn.Sequential(nn.Linear(3, 2))
    with watch(body, find_taps(body, ["0"])) as seen:
        body(torch.ones(1, 3))
        second = body(torch.zeros(5, 3))
    assert torch.equal(seen["0"], second)
