"""A teacher that is looked at once teaches as one that is looked at in every step."""

import pytest
import torch
from toystudy import arm, far, recipe, record, trained, weights

from kdprobe.errors import InputError, RecipeError
from kdprobe.models.contract import Network
from kdprobe.train.losses.contract import LOSSES

KD = "0.1*cross_entropy + 0.9*kd(T=4)"
STILL = "data.shift=0"
CACHED = "cache_teacher=true"


@pytest.mark.parametrize("loss", [KD, "dkd", "dist", "feature(layer='logits')"])
def test_it_ends_where_the_other_does(tmp_path, loss):
    arms = {"one": arm(loss, lr=0.01)}
    plain = trained(tmp_path / "plain", arms, STILL)
    cached = trained(tmp_path / "cached", arms, STILL, CACHED)
    assert far(weights(plain, "one-seed0", 2), weights(cached, "one-seed0", 2)) < 1e-5
    assert record(plain)["teacher"] == record(cached)["teacher"]


def test_it_looks_at_each_image_once(tmp_path, monkeypatch):
    """Counted in images that the teacher is shown after its own training."""
    shown = {"plain": 0, "cached": 0}
    real = Network.forward
    for name, more in (("plain", []), ("cached", [CACHED])):

        def forward(self, pixels, name=name):
            if not self.training and self.body.fc.in_features == 12:  # the teacher of width 3
                shown[name] += len(pixels)
            return real(self, pixels)

        wide = {"name": "resnet8", "arguments": {"width": 3}}
        with monkeypatch.context() as patch:
            patch.setattr(Network, "forward", forward)
            trained(tmp_path / name, {"one": arm(KD)}, STILL, *more, teacher=wide)
    assert shown["plain"] - shown["cached"] == pytest.approx(36, abs=4), "two epochs against one"


def test_labels_that_are_wrong_change_none_of_what_is_cached(tmp_path):
    """The cache follows the rows of the corrupted share, also where rows come twice."""
    arms, noise = {"one": arm("kd(T=4)", lr=0.01)}, "data.corrupt=['bootstrap']"
    plain = trained(tmp_path / "plain", arms, STILL, noise)
    cached = trained(tmp_path / "cached", arms, STILL, noise, CACHED)
    assert far(weights(plain, "one-seed0", 2), weights(cached, "one-seed0", 2)) < 1e-5


@pytest.mark.parametrize("moving", ["data.shift=1", "data.augment=['flip']"])
def test_it_is_refused_where_views_change(moving):
    with pytest.raises(RecipeError) as error:
        recipe({"one": arm(KD)}, STILL, moving, CACHED)
    told = "\n  cache_teacher: found true beside data.shift or data.augment; wanted views that stay"
    assert told in str(error.value)


def test_it_is_refused_for_losses_of_layers(tmp_path):
    arms = {"one": arm("cross_entropy + at"), "two": arm(KD)}
    with pytest.raises(InputError) as error:
        trained(tmp_path, arms, STILL, CACHED)
    told = "arms.one: a loss reads stage1, stage2, stage3 of the teacher, and cache_teacher keeps"
    assert told in str(error.value)
    assert "arms.two" not in str(error.value)
    assert not (tmp_path / "teacher").exists()


def test_a_loss_that_shows_the_teacher_images_of_its_own_is_refused_before_training(tmp_path):
    assert "bss" in LOSSES
    with pytest.raises(InputError, match="without cached teacher logits"):
        trained(tmp_path, {"one": arm("cross_entropy + bss")}, STILL, CACHED)
    assert not (tmp_path / "one-seed0").exists()


def test_what_is_cached_are_logits_in_evaluation_mode(tmp_path):
    """Against a look at each image alone, which no batch statistic could survive."""
    from toystudy import network, place

    from kdprobe.train.place import logits_of

    wanted = recipe({"one": arm(KD)}, STILL)
    folder = trained(tmp_path, {"one": arm(KD)}, STILL)
    teacher, share = network(folder, "teacher", 2), place(wanted).train
    found = logits_of(teacher, share)
    assert teacher.training, "the mode is given back"
    teacher.eval()
    with torch.no_grad():
        alone = torch.cat([teacher(share.pixels[row][None]) for row in share.rows])
    assert torch.allclose(found, alone, atol=1e-5)
