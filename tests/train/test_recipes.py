"""Every packaged recipe is sound, says what it asks, and trains from start to end at a toy size."""

import json
import re
import tomllib
from functools import cache
from importlib import resources

import pytest
import torch

from kdprobe.auditing import audit
from kdprobe.study import load_study
from kdprobe.train.loop import placed, rehearse, train
from kdprobe.train.recipe import load_recipes, packaged_recipes

OLD = ("tiny",)  # trained in other tests
SMALL = tuple(n for n in packaged_recipes() if n not in OLD and not n.endswith("-full"))
FULL = tuple(n for n in packaged_recipes() if n.endswith("-full"))
EPOCHS, RATE = 2, 0.005  # low, for a teacher that knows nothing pushes hard


loaded = cache(load_recipes)


def dear(name):
    """Those of many arms are trained with the slow tests."""
    slow = name in ("orthogonality", "teacher-free", "defective", "reversed")
    return pytest.param(name, marks=pytest.mark.slow) if slow else name


def text(name):
    file = resources.files("kdprobe.train").joinpath("recipes", f"{name}.toml")
    return file.read_text(encoding="utf-8")


def shrunk(recipe, *, deep=False):
    """The same study of one seed, two epochs and few images; as `deep` as it is where asked."""
    raw = recipe.model_dump(mode="json")
    before = raw["optimizer"]["epochs"]
    raw |= {"seeds": [0], "checkpoints": "all"}
    raw["data"] |= {"name": "photodigits", "arguments": {"train": 64, "test": 16}}
    raw["optimizer"] |= {"epochs": EPOCHS, "batch_size": 16, "lr": RATE}
    if raw["optimizer"]["milestones"]:
        raw["optimizer"]["milestones"] = [1]
    raw["teacher"] |= {"epochs": EPOCHS, "checkpoints": None}
    for run in (raw["teacher"], *raw["arms"].values()):
        run["model"] = network(run["model"], deep)
        run["techniques"] = [sooner(call, EPOCHS / before) for call in run["techniques"]]
        for stage in run.get("stages", ()):
            stage |= {"epochs": EPOCHS // len(run["stages"]), "lr": RATE}
        if isinstance(run.get("teacher", {}).get("epoch"), int):
            run["teacher"]["epoch"] = min(run["teacher"]["epoch"], EPOCHS)
    return type(recipe).model_validate_json(json.dumps(raw))


def network(model, deep):
    """A narrow one, and of its family the shallowest."""
    name = model["name"]
    if not deep:
        name = re.sub(r"^(resnet|vgg)\d+.*", r"\g<1>8", name)
    width = 0.25 if name == "MobileNetV2" else 8
    return {**model, "name": name, "arguments": {"width": width}}


def sooner(call, share):
    """A technique whose moments come as early in a shorter training."""
    moment = re.compile(r"\b(start|end|freeze)=([\d.]+)")
    return moment.sub(lambda found: f"{found[1]}={float(found[2]) * share:g}", call)


def studies(name, **how):
    """The toy studies of a recipe, without those that have become alike."""
    found = {}
    for recipe in loaded(name).values():
        small = shrunk(recipe, **how)
        found.setdefault(small.model_dump_json(exclude={"name"}), small)
    return list(found.values())


@pytest.mark.parametrize("name", [dear(name) for name in SMALL])
def test_it_trains_from_start_to_end_and_its_study_can_be_read(name, tmp_path):
    """Of a sweep, its first study."""
    must_train(studies(name)[0], tmp_path / "first")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SMALL if "[sweep." in text(n)])
def test_so_do_all_others_of_a_sweep(name, tmp_path):
    for recipe in studies(name)[1:]:
        must_train(recipe, tmp_path / recipe.name)


def must_train(recipe, folder):
    study = load_study(train(recipe, out=folder))
    assert all(run.entry.status == "finished" for run in study.runs)
    students = {arm for arm, found in recipe.arms.items() if found.role == "student"}
    assert {student.arm for student, _ in study.pairs()} == students
    assert {baseline.arm for _, baseline in study.pairs()} == {"baseline"}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_the_losses_of_a_full_size_twin_fit_its_networks(name, tmp_path):
    largest = max(studies(name, deep=True), key=lambda study: len(study.arms))
    rehearse(placed(largest, tmp_path, torch.device("cpu"), lambda event: None))


@pytest.mark.parametrize("name", SMALL)
def test_it_begins_with_what_it_asks_and_has_a_full_size_twin(name):
    first = text(name).splitlines()[0]
    assert first.startswith("# ")
    assert "?" in first
    assert tomllib.loads(text(f"{name}-full"))["base"] == name


@pytest.mark.parametrize("name", [*SMALL, *FULL])
def test_the_baseline_comes_first_and_is_the_only_one(name):
    for recipe in loaded(name).values():
        roles = [arm.role for arm in recipe.arms.values()]
        assert next(iter(recipe.arms)) == "baseline"
        assert roles[0] == "baseline"
        assert roles.count("baseline") == 1


@pytest.mark.parametrize(
    ("name", "classes", "arm", "scale", "share"),
    [
        ("teacher-free", 10, "kd-released", 0.0595, 0.160),
        ("teacher-free", 10, "reg-released", 1.000, 0.1000),
        ("teacher-free-full", 100, "kd-released", 0.0595, 0.160),
        ("teacher-free-full", 100, "self-released", 0.525, 0.905),
        ("teacher-free-full", 100, "reg-released", 1.000, 0.1000),
        ("reversed", 10, "kd-released", 0.406, 0.0148),
        ("reversed-full", 100, "kd-released", 0.406, 0.0148),
        ("defective-full", 100, "kd-last", 0.0595, 0.160),
        ("defective-full", 100, "uniform", 0.0595, 0.160),
    ],
)
def test_released_losses_have_the_scale_of_their_controls(name, classes, arm, scale, share):
    recipe = loaded(name)[""]
    found = audit(recipe.arms[arm].loss, classes=classes).nearest
    assert found.scale.value == pytest.approx(scale, rel=5e-3)
    assert found.share.value == pytest.approx(share, rel=1e-2)
    if scale != 1:
        control = "scaled-self" if arm == "self-released" else "scaled"
        assert recipe.arms[control].loss == f"{scale}*cross_entropy"
