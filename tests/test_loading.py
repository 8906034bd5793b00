"""A record becomes the network that was saved, or a sentence that says why it cannot."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import NETWORK, fresh, run, spoil, write_study
from safetensors.torch import load_file, save_file
from torch import nn

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError, UnknownName
from kdprobe.loading import (
    BrokenWeights,
    build,
    code_digest,
    load_images,
    load_network,
    parameter_changes,
)
from kdprobe.manifest import DataEntry, NetworkEntry
from kdprobe.study import Checkpoint, load_study

OWN = """
import torch
from kdprobe.datasets.contract import Images
from kdprobe.models.contract import make_body
def net(num_classes, width=2):
    return make_body("resnet8", num_classes=num_classes, width=width)
def number(num_classes):
    return num_classes
def narrow():
    pass
def data(split, count=4):
    return Images(torch.rand(count, 3, 8, 8), torch.zeros(count, dtype=torch.int64), ("a",), None)
def broken(num_classes):
    return 1 / 0
def broken_data(split):
    raise KeyError("x")
def listed(split):
    return []
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    """A module of the user's own, importable from the working directory."""
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    return "own_networks"


def saved(folder, seed=0, **changes: Any) -> Checkpoint:
    file = folder / "epoch-0001.safetensors"
    save_file(fresh(seed, {**NETWORK, **changes}), file)
    return Checkpoint("s", 1, file, NetworkEntry(**NETWORK))


def factory(path: str, **arguments: Any) -> NetworkEntry:
    return NetworkEntry(factory=path, num_classes=10, arguments=arguments)


def test_a_network_is_as_it_was_saved(tmp_path):
    checkpoint = saved(tmp_path)
    network = load_network(checkpoint)
    wanted = load_file(checkpoint.path)
    assert all(torch.equal(value, wanted[k]) for k, value in network.body.state_dict().items())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_becomes_float32(tmp_path):
    checkpoint = saved(tmp_path)
    half = {k: v.half() if v.is_floating_point() else v for k, v in fresh(0).items()}
    save_file(half, checkpoint.path)
    network = load_network(checkpoint)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network(torch.rand(2, 3, 32, 32)).isfinite().all()


def test_pixels_are_normalised_as_in_training():
    plain, shifted = NETWORK, {**NETWORK, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    one, two = build(NetworkEntry(**plain)).eval(), build(NetworkEntry(**shifted)).eval()
    two.body.load_state_dict(one.body.state_dict())
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(two(pixels), one((pixels - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet14"}, r"'resnet8 \(width=2\)': it has \d+ tensors more, the first is 'l"),
        ({"name": "plain8"}, r"it lacks \d+ tensors, the first is '.*'.* Name the network"),
        ({"num_classes": 7}, r"'fc.weight' has shape \(7, 8\), wanted \(10, 8\); correct num_cl"),
        ({"arguments": {"width": 3}}, r"has shape \(3,.*\), wanted \(2,.*\); correct num_classes"),
    ],
)
def test_other_weights_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load_network(saved(tmp_path, **changes))


def test_a_renamed_tensor_is_guessed(tmp_path):
    checkpoint = saved(tmp_path)
    tensors = load_file(checkpoint.path)
    tensors["conv1_weight"] = tensors.pop("conv1.weight")
    save_file(tensors, checkpoint.path)
    with pytest.raises(InputError, match=r"'conv1.weight'; did you mean 'conv1_weight'\?"):
        load_network(checkpoint)


def test_a_tensor_like_no_other_is_named_alone(tmp_path):
    checkpoint = saved(tmp_path)
    save_file({"?": torch.ones(1)}, checkpoint.path)
    with pytest.raises(InputError, match=r"the first is '[^']*'\. Name the network"):
        load_network(checkpoint)


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_named(tmp_path, number):
    checkpoint = saved(tmp_path)
    tensors = load_file(checkpoint.path)
    tensors["fc.bias"][3] = number
    save_file(tensors, checkpoint.path)
    with pytest.raises(BrokenWeights, match=r"tensor 'fc.bias' holds NaN or infinite numbers"):
        load_network(checkpoint)


def test_spoil_spoils(tmp_path):
    checkpoint = saved(tmp_path)
    name = spoil(checkpoint.path)
    with pytest.raises(BrokenWeights, match=f"tensor '{name}'"):
        load_network(checkpoint)


def test_unknown_names():
    with pytest.raises(UnknownName, match=r"no model is called 'resnt8'; did you mean 'resnet8'"):
        build(NetworkEntry(name="resnt8", num_classes=10))
    with pytest.raises(InputError, match="does not take these settings"):
        build(NetworkEntry(name="resnet8", num_classes=10, arguments={"depth": 3}))
    with pytest.raises(UnknownName, match=r"no data set is called 'digit'; did you mean 'digits'"):
        load_images(DataEntry(name="digit"))
    with pytest.raises(InputError, match="data set 'digits' does not take these settings"):
        load_images(DataEntry(name="digits", arguments={"count": 3}))


def test_what_each_transform_does_to_the_parameters_is_told():
    """Of a resnet8 the two projections, 16 -> 32 and 32 -> 64 channels, with their norms."""
    plain = NetworkEntry(name="resnet8", num_classes=10)
    assert parameter_changes(plain) == {}
    twin = plain.model_copy(update={"transforms": ("strip_skips", "cheap_convolutions")})
    found = parameter_changes(twin)
    assert list(found) == ["strip_skips", "cheap_convolutions"]
    assert found["strip_skips"] == -(16 * 32 + 2 * 32 + 32 * 64 + 2 * 64)
    count, before = (sum(p.numel() for p in build(e).body.parameters()) for e in (twin, plain))
    assert sum(found.values()) == count - before


def test_own_code_runs_only_when_it_was_allowed(own):
    entry = factory(f"{own}:net", width=2)
    with pytest.raises(InputError, match=rf"'{own}:net'; refused\. .* --allow-code {own}"):
        build(entry)
    with pytest.raises(InputError, match="refused"):
        build(entry, {own + ".net", "other"})
    assert own not in sys.modules, "not even imported"
    assert isinstance(build(entry, {own}).body, nn.Module)


def test_a_file_of_the_working_directory_stands_in_for_no_library(own, monkeypatch):
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(Path.cwd())])
    build(factory(f"{own}:net", width=2), {own})
    assert sys.path[-1] == str(Path.cwd())


def test_own_data_runs_only_when_it_was_allowed(own):
    entry = DataEntry(factory=f"{own}:data", arguments={"count": 3})
    with pytest.raises(InputError, match=f"--allow-code {own}"):
        load_images(entry)
    found = load_images(entry, allowed={own})
    assert isinstance(found, Images)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", r"gave int; wanted a torch\.nn\.Module"),
        ("narrow", r"does not take these settings: .*; wanted function\(num_classes="),
        ("nothing", r"cannot import 'own_networks:nothing' .*; wanted 'module:function'"),
        ("", "found factory '.*:'; wanted 'module:function'"),
        ("broken", r"failed: ZeroDivisionError: division by zero \(own_networks\.py:\d+\)"),
    ],
)
def test_own_networks_that_are_none(own, name, message):
    with pytest.raises(InputError, match=message):
        build(factory(f"{own}:{name}"), {own})


def test_own_code_that_is_not_there():
    with pytest.raises(InputError, match=r"cannot import 'not_there:f' \(No module named"):
        build(factory("not_there:f"), {"not_there"})


@pytest.mark.parametrize(
    ("name", "message"),
    [("listed", "gave list; wanted kdprobe.datasets.contract.Images"), ("narrow", "not take")],
)
def test_own_data_that_are_none(own, name, message):
    with pytest.raises(InputError, match=message):
        load_images(DataEntry(factory=f"{own}:{name}", arguments={}), allowed={own})


def test_an_own_network_loads_its_checkpoint(own, tmp_path):
    network = {"factory": f"{own}:net", "num_classes": 10, "arguments": {"width": 2}}
    study = load_study(write_study(tmp_path / "study", [run("s", network=network)]))
    assert load_network(study.runs[0].last, allowed={own})(torch.rand(1, 3, 32, 32)).shape == (
        1,
        10,
    )


def test_data_of_the_users_that_fails_is_the_users(own):
    with pytest.raises(InputError, match=r"'own_networks:broken_data' failed: KeyError: 'x' \(own"):
        load_images(DataEntry(factory=f"{own}:broken_data"), allowed={own})


def test_code_beside_a_factory_counts(own, tmp_path):
    """What the factory imports from its own folder is part of what it builds."""
    (tmp_path / "beside_it.py").write_text("WIDTH = 2\n")
    (tmp_path / "own_networks.py").write_text(OWN + "import beside_it\n")
    study = load_study(write_study(tmp_path / "study", [run("t", "teacher")]))
    entry = study.runs[0].entry.model_copy(update={"network": factory(f"{own}:net")})
    study = replace(study, runs=(replace(study.runs[0], entry=entry),))
    before = code_digest(study, {own})
    assert set(before) == {"own_networks.py", "beside_it.py"}
    (tmp_path / "beside_it.py").write_text("WIDTH = 3\n")
    after = code_digest(study, {own})
    assert before["own_networks.py"] == after["own_networks.py"]
    assert before["beside_it.py"] != after["beside_it.py"]
    sys.modules.pop("beside_it")


def test_bundled_networks_have_no_code_of_the_users(tmp_path):
    study = load_study(write_study(tmp_path, [run("t", "teacher")]))
    assert code_digest(study, ()) == {}
