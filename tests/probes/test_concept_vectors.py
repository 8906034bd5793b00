"""Concept vectors: ridge regression derived again, captum's own TCAV, and planted concepts."""

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stage import Stage, linear, network
from torch import Tensor, nn

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.probes.concept_examples import FEWEST, Examples, examples_of
from kdprobe.probes.concept_pictures import content_of
from kdprobe.probes.concept_vectors import (
    RIDGE,
    classified,
    concept_vectors,
    drawn,
    normals,
)

ASKED: dict[str, Any] = {"layers": ("0",), "concepts": "masks", "folder": "", "content": ""}
ASKED |= {"examples": 24, "sets": 6, "of": ""}
SIDE = 8


def spots(count: int = 40, seed: int = 0) -> Images:
    """Gray noise with a bright red square somewhere, the object."""
    chance = torch.Generator().manual_seed(seed)
    pixels = 0.4 + 0.2 * torch.rand(count, 3, SIDE, SIDE, generator=chance)
    corners = torch.randint(0, SIDE - 2, (count, 2), generator=chance)
    places = torch.arange(SIDE)
    inside = [(places >= corners[:, i, None]) & (places < corners[:, i, None] + 3) for i in (0, 1)]
    objects = inside[0][:, :, None] & inside[1][:, None, :]
    pixels[:, 0] = torch.where(objects, 1.0, pixels[:, 0])
    return Images(pixels, torch.arange(count) % 2, ("a", "b"), objects, objects.long() - 1)


def look(body: nn.Module, images: Images | None = None, **more: Any) -> Any:
    images = spots() if images is None else images
    stage = Stage(images, {"net": network(body)}, more.pop("batch", 128))
    with torch.random.fork_rng():
        return concept_vectors(("net",), stage, **ASKED | more)


class RedSeeker(nn.Module):
    """A layer of mean colours; the first class wants red, the second wants none."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        red = self.pool(x).flatten(1)[:, 0]
        return torch.stack([red, -red], dim=1)


def test_a_planted_concept_speaks_for_one_class_and_against_the_other():
    for of, score in (("a", 1.0), ("b", 0.0)):
        seen = look(RedSeeker(), layers=("pool",), of=of)
        assert set(seen["labels"].tolist()) == {"ab".index(of)}
        assert (seen["toward/pool/object"] == score).all()
        assert (seen["toward/pool/background"] == 1 - score).all()
        assert seen["accuracy/pool/object"].mean() > 0.95
    assert 0.2 < seen["accuracy_by_chance/pool/object"].mean() < 0.8
    assert seen["by_chance/pool/object"].shape == (6, 8)


def test_parts_are_concepts_too():
    seen = look(RedSeeker(), layers=("pool",), concepts="parts", of="a")
    assert (seen["toward/pool/part 0"] == 1).all()


@pytest.mark.parametrize("width", [3, 40])
def test_the_normal_is_that_of_ridge_regression(width):
    """In d dimensions instead of 2 t, whichever is more."""
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(20, width, generator=chance, dtype=torch.float64)
    train = torch.randperm(20, generator=chance)[:12][None]
    weights = normals(x @ x.T, train)[0]
    rows = x[train[0]] - x[train[0]].mean(0)
    y = torch.tensor([1.0] * 6 + [-1.0] * 6, dtype=torch.float64)
    ridge = RIDGE * rows.square().sum() / 12
    wanted = torch.linalg.solve(rows.T @ rows + ridge * torch.eye(width), rows.T @ y)
    assert torch.allclose(x[train[0]].T @ weights, wanted, atol=1e-8)
    sklearn = pytest.importorskip("sklearn.linear_model")
    fitted = sklearn.Ridge(alpha=float(ridge)).fit(rows.numpy(), y.numpy())
    assert np.allclose(fitted.coef_, wanted.numpy(), atol=1e-8)


def test_slopes_and_accuracy_are_those_of_the_normal():
    chance = torch.Generator().manual_seed(1)
    features = torch.randn(36, 5, generator=chance) + 3
    features[:12, 0] += 1.5
    slopes = torch.randn(7, 5, generator=chance)
    one = Examples("c", torch.zeros(12, 1), torch.zeros(24, 1), True)
    cut, _ = drawn(one, 4, chance)
    toward, accuracy = classified(features, slopes, cut)
    for u in range(4):
        rows = features[cut.train[u]].double()
        y = torch.tensor([1.0, -1.0]).double().repeat_interleave(8)
        centred = rows - rows.mean(0)
        ridge = RIDGE * centred.square().sum() / 16
        v = torch.linalg.solve(centred.T @ centred + ridge * torch.eye(5), centred.T @ y)
        assert torch.equal(toward[u], slopes.double() @ v > 0)
        told = (features[cut.test[u]].double() - rows.mean(0)) @ v > 0
        right = told == torch.tensor([True, False]).repeat_interleave(4)
        assert accuracy[u] == pytest.approx(float(right.double().mean()))


def test_captums_own_tcav_counts_the_same(tmp_path):
    """With the same examples and our classifier, which captum is handed."""
    from captum.concept import TCAV, Classifier, Concept

    images, body = spots(), linear_after_tanh()
    seen = look(body, images, layers=("1",), sets=1, of="a")
    (one, _) = examples_of(images.take(torch.arange(24)), "masks", "")
    cut, _ = drawn(one, 1, torch.Generator().manual_seed(72))
    both = torch.cat([one.shown, one.others])

    class Ours(Classifier):
        def __init__(self) -> None:
            pass

        def train_and_eval(self, dataloader: Any, **_: Any) -> None:
            x, y = (torch.cat(part) for part in zip(*dataloader, strict=True))
            order = torch.cat([(y == 0).nonzero()[:, 0], (y == 1).nonzero()[:, 0]])[None]
            x = x.double()
            v = normals(x @ x.T, order)[0] @ x[order[0]]
            self.found = torch.stack([v, -v]).float()

        def weights(self) -> Tensor:
            return self.found

        def classes(self) -> Any:
            return [0, 1]

    half = cut.train.shape[1] // 2
    sides = [[both[row] for row in part] for part in (cut.train[0, :half], cut.train[0, half:])]
    own, against = (
        Concept(i, name, torch.utils.data.DataLoader(side, batch_size=8))
        for i, (name, side) in enumerate(zip(("own", "against"), sides, strict=True))
    )
    net = network(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tcav = TCAV(net, ["body.1"], classifier=Ours(), save_path=str(tmp_path))
        rest = images.take(torch.arange(24, 40)[images.labels[24:] == 0])
        scores = tcav.interpret(rest.pixels, [[own, against]], target=0)
    wanted = scores["0-1"]["body.1"]["sign_count"][0]
    assert 0 < wanted < 1
    assert seen["toward/1/object"].mean() == pytest.approx(float(wanted))


def linear_after_tanh() -> nn.Sequential:
    """A layer whose slopes differ between images: squashed again before the logits."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = nn.Linear(3 * SIDE * SIDE, 9), nn.Linear(9, 6)
        for layer in (first, second):
            layer.weight.data *= 3
        return nn.Sequential(nn.Flatten(), first, nn.Tanh(), second, nn.Tanh(), nn.Linear(6, 2))


def test_an_image_trains_on_both_sides_or_tests_on_both():
    one = Examples("c", torch.zeros(9, 1), torch.zeros(18, 1), True)
    own, again = drawn(one, 50, torch.Generator().manual_seed(0))
    for cut, first in ((own, {0}), (again, {1, 2})):
        assert (cut.train.shape, cut.test.shape) == ((50, 12), (50, 6))
        for train, test in zip(cut.train, cut.test, strict=True):
            for rows in (train, test):
                positive, negative = (rows % 9).chunk(2)
                assert torch.equal(positive, negative)
                assert set((rows.chunk(2)[0] // 9).tolist()) <= first
            assert not set((train % 9).tolist()) & set((test % 9).tolist())
            assert not set(train.chunk(2)[0].tolist()) & set(train.chunk(2)[1].tolist())


def test_pictures_stand_against_images_that_no_other_side_has():
    one = Examples("c", torch.zeros(9, 1), torch.zeros(14, 1), False)
    own, again = drawn(one, 50, torch.Generator().manual_seed(0))
    assert own.train.shape == (50, 8), "two thirds of 7"
    for cut in (own, again):
        for train, test in zip(cut.train, cut.test, strict=True):
            assert len({*train.tolist(), *test.tolist()}) == 14
    assert (own.train[:, :4] < 9).all()
    assert (own.train[:, 4:] >= 9).all()
    assert (again.train >= 9).all()


def test_a_layer_that_answers_all_alike_has_no_vector():
    body = linear_after_tanh()
    body[1].weight.data.zero_()
    seen = look(body, layers=("1", "0"))
    assert "toward/0/object" in seen
    assert not [key for key in seen if "/1/" in key]


def test_the_batch_changes_nothing_and_all_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    one, two = (look(linear_after_tanh(), layers=("1", "3"), batch=batch) for batch in (128, 5))
    for name, values in one.items():
        assert torch.equal(values, two[name]), name
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert not list(tmp_path.iterdir()), "no file is written"


def test_sequences_have_concepts():
    chance = torch.Generator().manual_seed(0)
    words = torch.rand(30, 5, 4, generator=chance)
    objects = torch.rand(30, 5, generator=chance) > 0.5
    objects[:, 0], objects[:, 1] = True, False
    images = Images(words, torch.arange(30) % 2, ("a", "b"), objects)
    body = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(15, 2))
    stage = Stage(images, {"net": network(body, (1.0, 1.0, 1.0, 1.0))})
    stage.networks["net"].mean = torch.zeros(1, 4, 1, 1)
    seen = concept_vectors(("net",), stage, **ASKED | {"examples": 20})
    assert seen["toward/0/object"].shape == (6, 10)


def folder(place: Path, **colours: tuple[int, int, int]) -> str:
    """Pictures of a colour, with some noise."""
    chance = np.random.default_rng(0)
    for name, colour in colours.items():
        (place / name).mkdir(parents=True)
        for i in range(8):
            values = np.clip(np.array(colour) + chance.normal(0, 20, (12, 10, 3)), 0, 255)
            Image.fromarray(values.astype(np.uint8)).save(place / name / f"{i}.png")
    return str(place)


def test_pictures_of_the_user_are_concepts(tmp_path):
    named = folder(tmp_path / "colours", red=(250, 60, 60), cyan=(20, 250, 250))
    seen = look(RedSeeker(), layers=("pool",), concepts="folders", folder=named, of="a")
    assert (seen["toward/pool/red"] == 1).all()
    assert (seen["toward/pool/cyan"] == 0).all()
    assert seen["accuracy/pool/red"].mean() > 0.9


def test_the_content_of_a_folder_is_known_by_its_pictures(tmp_path):
    one = folder(tmp_path / "a", red=(250, 0, 0))
    two = folder(tmp_path / "b", red=(250, 0, 0))
    assert content_of(one) == content_of(two)
    Image.new("RGB", (4, 4)).save(tmp_path / "b" / "red" / "3.png")
    assert content_of(one) != content_of(two)


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"found no folder .*correct concept_vectors\.folders"):
        content_of(str(tmp_path / "nowhere"))
    (tmp_path / "empty" / "red").mkdir(parents=True)
    with pytest.raises(InputError, match="found no pictures in folders of"):
        content_of(str(tmp_path / "empty"))
    named = folder(tmp_path / "broken", red=(250, 0, 0))
    (tmp_path / "broken" / "red" / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png, which cannot be read .*take it out"):
        look(RedSeeker(), layers=("pool",), concepts="folders", folder=named)
    for file in list((tmp_path / "broken" / "red").iterdir())[FEWEST - 1 :]:
        file.unlink()
    with pytest.raises(InputError, match=f"found fewer than {FEWEST} examples of every concept"):
        look(RedSeeker(), layers=("pool",), concepts="folders", folder=named)
    words = Images(torch.rand(30, 5, 4), torch.arange(30) % 2, ("a", "b"), None)
    with pytest.raises(InputError, match=r"inputs of shape \(5, 4\) and folders of pictures"):
        list(examples_of(words, "folders", named))


def test_images_that_show_no_concept_are_refused():
    bare = Images(spots().pixels, spots().labels, ("a", "b"), None)
    with pytest.raises(InputError, match="found no object masks"):
        look(linear(2), bare)
    with pytest.raises(InputError, match="found no part labels"):
        look(linear(2), bare, concepts="parts")
    with pytest.raises(InputError, match="found fewer than"):
        look(linear(2), examples=FEWEST - 1)
    with pytest.raises(InputError, match=r"found 1 images of class 'b' besides the 38"):
        look(linear(2), examples=38, of="b")


def test_counterexamples_keep_what_the_mask_of_another_image_marks():
    images = spots(12)
    (own, ground) = examples_of(images, "masks", "")
    nothing = images.pixels.mean((0, 2, 3)).view(3, 1, 1)
    for i in range(12):
        for turn in (1, 2):
            kept = images.objects[(i - turn) % 12]
            wanted = torch.where(kept, images.pixels[i], nothing)
            assert torch.allclose(own.others[(turn - 1) * 12 + i], wanted)
        wanted = torch.where(images.objects[i], nothing, images.pixels[i])
        assert torch.allclose(ground.shown[i], wanted)
