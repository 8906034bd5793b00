"""Answers are the network's own, image by image; a network of other classes is refused."""

import pytest
import torch
from handmade import PHOTODIGITS, RUNS, run, write_study
from stage import Stage, linear, network, noise_images

from kdprobe.errors import InputError
from kdprobe.loading import load_images, load_network
from kdprobe.manifest import DataEntry
from kdprobe.probes.contract import PROBES, look_at, sight
from kdprobe.probes.lens import Lens
from kdprobe.probes.outputs import outputs
from kdprobe.study import load_study


def test_logits_are_those_of_one_image_at_a_time():
    net, data = network(linear(2)), noise_images(7)
    for batch in (3, 100):
        seen = outputs(["net"], Stage(data, {"net": net}, batch=batch))
        for i in range(7):
            torch.testing.assert_close(seen["logits"][i], net(data.pixels[i : i + 1])[0])
        assert torch.equal(seen["labels"], data.labels)


def test_a_lens_shows_the_sample_to_the_saved_network(tmp_path):
    study = load_study(write_study(tmp_path, data=PHOTODIGITS))
    lens = Lens(torch.device("cpu"), study.data, count=5, seed=3)
    last = study.runs[0].last
    seen = look_at(sight("outputs", last, images=5), lens)
    sample = load_images(study.data, "test").sample(5, 3)
    assert torch.equal(seen["labels"], sample.labels)
    torch.testing.assert_close(seen["logits"], load_network(last)(sample.pixels))
    assert not seen["logits"].requires_grad


def test_a_network_of_other_classes_is_refused(tmp_path):
    other = {"name": "resnet8", "num_classes": 3, "arguments": {"width": 2}}
    study = load_study(write_study(tmp_path, [{**run("x"), "network": other}]))
    lens = Lens(torch.device("cpu"), study.data, count=5, seed=0)
    for probe, settings in (("outputs", {}), ("slice_2d", {"radius": 1.0, "points": 3})):
        wanted = sight(probe, study.runs[0].last, images=5, **settings)
        with pytest.raises(InputError, match="run 'x' has 3 classes, the data set has 10; analyse"):
            look_at(wanted, lens)


def test_a_sight_is_known_by_its_content(tmp_path):
    study = load_study(write_study(tmp_path, RUNS[:1]))
    one, two = (checkpoint.sealed() for checkpoint in study.runs[0].checkpoints)
    wanted = sight("jacobian", one, images=4, layers=("logits",), grid=4)
    again = sight("jacobian", one, grid=4, layers=("logits",), images=4)
    assert wanted == again, "settings have no order"
    assert hash(wanted) == hash(again)
    described = wanted.described("digest")
    assert "epoch" not in str(described), "no file name"
    others = [
        sight("jacobian", two, images=4, layers=("logits",), grid=4).described("digest"),
        sight("jacobian", one, images=5, layers=("logits",), grid=4).described("digest"),
        sight("jacobian", one, images=4, layers=("logits",), grid=8).described("digest"),
        wanted.described("other images"),
    ]
    assert all(other != described for other in others)
    assert wanted.title == "jacobian t epoch 0"
    assert sight("pictures", grid=4).described("digest")["images"] is None


def test_streams_of_chance_have_names():
    lens = Lens(torch.device("cpu"), DataEntry(name="digits"), count=5, seed=1)
    draws = [torch.rand(3, generator=lens.generator(purpose)) for purpose in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_every_probe_is_in_the_catalogue():
    wanted = {"hsic", "jacobian", "outputs", "pictures", "slice_1d", "slice_2d", "weights"}
    assert wanted <= set(PROBES)
    assert all(entry.version >= 1 for entry in PROBES.values())
