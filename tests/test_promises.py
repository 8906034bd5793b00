"""One bench for all: every metric, probe, loss and data set is held to its own label."""

import inspect
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import write_all
from handmade import FAST
from torch import nn

from kdprobe.claims.contract import CLAIMS
from kdprobe.datasets.contract import DATASETS, Images
from kdprobe.errors import InputError
from kdprobe.metrics.contract import METRICS, as_values, conclude
from kdprobe.metrics.scope import Discarding, Scope
from kdprobe.models.contract import Network
from kdprobe.probes.contract import PROBES, Sight, look_at, sight
from kdprobe.probes.lens import Lens
from kdprobe.results import MetricReport
from kdprobe.study import Checkpoint, Study, load_study
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs

LAYERS = ("stage3", "pooled", "logits")
TAPS = ("stage1", "stage2", "stage3", "pooled", "logits")
COUNTS = {"train": 32, "test": 48}  # of images, where a data set can be told


@dataclass(frozen=True)
class Watchful(Lens):
    """A lens that remembers how every network was when it was lent."""

    lent: list[tuple[Network, Any]] = field(default_factory=list)

    def network(self, checkpoint: Checkpoint) -> Network:
        network = super().network(checkpoint)
        self.lent.append((network, state(network)))
        return network


def state(network: nn.Module) -> Any:
    """All that a look must leave alone, in a form that compares."""
    weights = {name: value.numpy().tobytes() for name, value in network.state_dict().items()}
    modes = {name: module.training for name, module in network.named_modules()}
    hooks = {
        name: [
            len(getattr(module, kind))
            for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        ]
        for name, module in network.named_modules()
    }
    flags = {name: (p.requires_grad, p.grad is None) for name, p in network.named_parameters()}
    return weights, modes, hooks, flags


def chances() -> Any:
    """The random states that nobody may draw from."""
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), (name, keys.tolist(), *rest)


@pytest.fixture(scope="module")
def study(tiny_study: Path) -> Study:
    return load_study(tiny_study)


def scope_of(study: Study) -> Scope:
    return Scope(
        layers=LAYERS,
        images=6,
        available=48,
        dataset=study.data.name,
        classes=tuple("0123456789"),
        has_masks=True,
        similarity_layers={run.id: TAPS for run in study.runs},
        discarding=Discarding(**FAST["discarding"]),
    )


def look(wanted: Sight, study: Study) -> Mapping[str, np.ndarray]:
    lens = Watchful(torch.device("cpu"), study.data, wanted.images, 0)
    before = chances()
    seen = look_at(wanted, lens)
    assert chances() == before, f"{wanted.title} drew from the global random state"
    for network, was in lens.lent:
        assert state(network) == was, f"{wanted.title} changed the network"
    return {name: tensor.numpy() for name, tensor in seen.items()}


SMALL = {"layers": ("pooled",), "units": "cells", "grid": 4, "steps": 20, "restarts": 1}


def unasked(key: str, subject: Checkpoint) -> Sight:
    """A small look of an estimator, with the settings that analyses give it, where it has them."""
    known = inspect.signature(PROBES[key].look).parameters
    asked = Discarding(estimator=key).asked | SMALL
    return sight(key, subject, images=1, **{n: v for n, v in asked.items() if n in known})


@lru_cache(maxsize=1)
def _sights(folder: Path) -> dict[Sight, Mapping[str, np.ndarray]]:
    study = load_study(folder)
    last = study.runs[0].checkpoints[-1]
    asked = [unasked(key, last) for key in ("fit", "paper")]  # no default asks for these
    asked += [
        wanted
        for metric in METRICS.values()
        for wanted in next(metric.ask(study, scope_of(study), **settings(metric.key)))
    ]
    return {wanted: look(wanted, study) for wanted in dict.fromkeys(asked)}


@pytest.fixture(scope="module")
def seen(tiny_study: Path) -> dict[Sight, Mapping[str, np.ndarray]]:
    """What every sight of every metric shows, seen under watch."""
    return _sights(tiny_study)


def settings(key: str) -> dict[str, Any]:
    return METRICS[key].with_defaults(FAST.get(key, {}))


def measured(key: str, study: Study, seen: Mapping[Sight, Mapping[str, np.ndarray]]) -> Any:
    inquiry = METRICS[key].ask(study, scope_of(study), **settings(key))
    next(inquiry)
    return conclude(inquiry, seen)


def named(values: Any, names: tuple[str, ...]) -> Iterator[Any]:
    """Everything in nested `values` that stands under one of `names`."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key in names and not isinstance(value, dict):
                yield value
            else:
                yield from named(value, names)
    elif isinstance(values, list):
        for value in values:
            yield from named(value, names)


def numbers(values: Any) -> list[float]:
    if isinstance(values, list):
        return [number for value in values for number in numbers(value)]
    return [] if values is None else [float(values)]


@pytest.mark.parametrize("key", list(METRICS))
def test_a_metric_keeps_its_range(key, study, seen):
    low, high = METRICS[key].range
    values = as_values(measured(key, study, seen))
    found = numbers(list(named(values, METRICS[key].ranged)))
    assert found, f"{key} has no number under {METRICS[key].ranged}"
    assert low - 1e-6 <= min(found)
    assert max(found) <= high + 1e-6


@pytest.mark.parametrize("key", list(METRICS))
def test_a_metric_gives_the_same_numbers_twice(key, study, seen):
    once, twice = (as_values(measured(key, study, seen)) for _ in range(2))
    assert json.dumps(once, allow_nan=False) == json.dumps(twice, allow_nan=False)


@pytest.mark.parametrize("key", list(METRICS))
def test_a_metric_has_a_label_and_panels_that_can_be_written(key, study, seen):
    metric, result = METRICS[key], measured(key, study, seen)
    assert metric.question.endswith("?")
    assert len(metric.definition) > 40
    assert metric.source
    assert metric.better in ("higher", "lower", "neither")
    report = MetricReport(
        key=key,
        title=metric.title,
        question=metric.question,
        definition=metric.definition,
        source=metric.source,
        better=metric.better,
        settings={},
        status="measured",
        values=as_values(result),
        panels=tuple(result.panels()),
    )
    assert report.panels
    assert MetricReport.model_validate_json(report.model_dump_json()).panels


def test_places_on_the_page_are_taken_once():
    places = [metric.place for metric in METRICS.values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("key", list(PROBES))
def test_a_probe_sees_the_same_twice_and_leaves_the_network_alone(key, study, seen):
    wanted = next(one for one in seen if one.probe == key)
    again = look(wanted, study)
    assert set(again) == set(seen[wanted])
    for name, values in again.items():
        assert np.array_equal(values, seen[wanted][name]), name
        assert np.isfinite(values).all(), name
        assert values.size


def test_sights_do_not_depend_on_what_was_seen_before(study, seen):
    """The last sight of all, seen in a fresh lens, is the one that was seen in the row."""
    for wanted in list(seen)[-3:]:
        again = look(wanted, study)
        assert all(np.array_equal(again[name], values) for name, values in seen[wanted].items())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Small files of every data set that is made from files."""
    return write_all(tmp_path_factory.mktemp("files"))


def make(key: str, split: str, files: Mapping[str, Path], **more: Any) -> Images:
    known = inspect.signature(DATASETS[key].make).parameters
    counts = {name: count for name, count in COUNTS.items() if name in known}
    place = {"folder": str(files[key])} if DATASETS[key].needs_files else {}
    return DATASETS[key].make(split, **counts, **place, **more)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("key", list(DATASETS))
def test_a_data_set_is_valid_and_drawn_by_its_seed_alone(key, split, files):
    make(key, split, files, seed=3)  # a library may draw while it is imported
    before = chances()
    one = make(key, split, files, seed=3)
    assert chances() == before
    torch.manual_seed(99)
    assert make(key, split, files, seed=3).digest() == one.digest()
    other = make(key, split, files, seed=4)
    assert (other.digest() == one.digest()) == DATASETS[key].needs_files
    assert (one.objects is not None) == DATASETS[key].has_masks
    if one.objects is not None:
        share = one.objects.float().mean((1, 2))
        assert share.min() > 0
        assert share.max() < 1
    assert 0 <= float(one.pixels.min()) < float(one.pixels.max()) <= 1
    assert len(set(one.classes)) == len(one.classes) > 1


@pytest.mark.parametrize("key", list(DATASETS))
def test_the_splits_of_a_data_set_share_no_image(key, files):
    train, test = (
        {image.numpy().tobytes() for image in make(key, split, files).pixels}
        for split in ("train", "test")
    )
    assert not train & test


TARGET = torch.arange(6)  # of six images, which most networks here name rightly
PIXELS = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(20))
BATCH = Batch(PIXELS, torch.tensor([3, 1, 4, 8, 5, 9]), total=12)


def leaves(seed: int) -> dict[str, torch.Tensor]:
    """All that a loss may see of a network: logits, layers, and the weights it looks again with."""
    chance = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, 10, generator=chance) + 6 * torch.eye(6, 10)
    features = {tap: torch.randn(6, 4, 8, 8, generator=chance) for tap in TAPS[:3]}
    pooled = torch.randn(6, 4, generator=chance)
    weights = torch.linalg.pinv(PIXELS.flatten(1)) @ logits
    return {"logits": logits, "look": weights, **features, "pooled": pooled}


def outputs(of: int | dict[str, torch.Tensor]) -> Outputs:
    """Of a seed or of leaves; beside the network another one trains."""
    seen = leaves(of) if isinstance(of, int) else of
    return Outputs(
        seen["logits"],
        {tap: seen[tap] for tap in TAPS[:4]},
        batch=BATCH,
        look=lambda pixels: pixels.flatten(1) @ seen["look"],
        together=torch.stack([seen["logits"], leaves(30)["logits"]]),
    )


def made(key: str) -> nn.Module:
    """The loss `key`, which has met the networks."""
    loss = LOSSES[key].make()
    if hasattr(loss, "meet"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            loss.meet(outputs(0), outputs(1))
    return loss


def at_rest(key: str) -> nn.Module:
    """The same, its own weights and memories held."""
    return made(key).eval().requires_grad_(False)


def must_be_pushed(loss: nn.Module, student: Outputs) -> set[str]:
    """Which leaves a loss cannot do without: its layers, or what it looks at again, or logits."""
    layers = set(getattr(loss, "layers", ()))
    if layers:
        return layers
    again = []
    spy = replace(student, look=lambda pixels: again.append(1) or student.look(pixels))
    loss(spy, outputs(1), TARGET)
    return {"look"} if again else {"logits"}


@pytest.mark.parametrize("key", list(LOSSES))
def test_a_loss_is_a_finite_number_with_a_gradient_for_the_student_alone(key):
    ours, theirs = leaves(0), leaves(1)
    for leaf in (*ours.values(), *theirs.values()):
        leaf.requires_grad_()
    before = chances()
    LOSSES[key].make()
    loss = made(key)
    value = loss(outputs(ours), outputs(theirs), TARGET)
    assert chances() == before
    assert value.shape == ()
    assert torch.isfinite(value)
    value.backward()
    pushed = {name for name, leaf in ours.items() if leaf.grad is not None and leaf.grad.any()}
    assert all(torch.isfinite(ours[name].grad).all() for name in pushed)
    assert pushed >= must_be_pushed(loss, outputs(ours))
    assert pushed <= must_be_pushed(loss, outputs(ours)) | {"logits"}
    assert all(leaf.grad is None for leaf in theirs.values())
    for name, weight in loss.named_parameters():
        assert torch.isfinite(weight.grad).all(), name


@pytest.mark.parametrize("key", list(LOSSES))
def test_a_loss_is_zero_and_least_at_the_teacher_where_it_says_so(key):
    loss, teacher = at_rest(key), outputs(1)
    at_teacher = float(loss(outputs(1), teacher, TARGET))
    elsewhere = [float(loss(outputs(seed), teacher, TARGET)) for seed in range(2, 12)]
    if LOSSES[key].zero_at_teacher:
        assert at_teacher == pytest.approx(0, abs=1e-6)
        assert min(elsewhere) > 1e-3
    else:
        assert abs(at_teacher) > 1e-3


@pytest.mark.parametrize("key", list(LOSSES))
def test_a_loss_looks_at_the_teacher_only_where_it_says_so(key):
    loss, student = at_rest(key), outputs(0)
    one, two = (float(loss(student, outputs(seed), TARGET)) for seed in (1, 2))
    assert (one != two) == LOSSES[key].needs_teacher


@pytest.mark.parametrize("key", list(LOSSES))
def test_a_loss_needs_company_only_where_it_says_so(key):
    loss, alone = at_rest(key), replace(outputs(0), together=None)
    if LOSSES[key].needs_company:
        with pytest.raises(InputError, match=f"{key!r} wants networks that are trained together"):
            loss(alone, outputs(1), TARGET)
    else:
        assert float(loss(alone, outputs(1), TARGET)) == float(loss(outputs(0), outputs(1), TARGET))


@pytest.mark.parametrize("key", list(LOSSES))
def test_a_loss_falls_along_its_gradient(key):
    loss, ours, teacher = at_rest(key), leaves(0), outputs(1)
    for leaf in ours.values():
        leaf.requires_grad_()
    value = loss(outputs(ours), teacher, TARGET)
    slopes = torch.autograd.grad(value, list(ours.values()), materialize_grads=True)
    steep = sum(float(slope.square().sum()) for slope in slopes)
    step = 1e-2 / steep**0.5
    moved = {
        name: leaf.detach() - step * slope
        for (name, leaf), slope in zip(ours.items(), slopes, strict=True)
    }
    lower = loss(outputs(moved), teacher, TARGET)
    assert float(lower) == pytest.approx(value.item() - step * steep, rel=1e-3)
    assert float(lower) < value.item()


def test_every_claim_names_what_it_judges():
    names = [name for claim in CLAIMS.values() for name in claim.names]
    assert len(set(names)) == len(names) > 0
    assert all(claim.source and claim.title for claim in CLAIMS.values())
