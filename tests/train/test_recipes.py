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
from kdprobe.train.loop import train
from kdprobe.train.placing import placed
from kdprobe.train.recipe import load_recipes, packaged_recipes
from kdprobe.train.rehearsing import rehearse

OLD = ("tiny",)  # trained in other tests
SMALL = tuple(n for n in packaged_recipes() if n not in OLD and not n.endswith("-full"))
FULL = tuple(n for n in packaged_recipes() if n.endswith("-full"))
EPOCHS, RATE = 2, 0.005  # low, for a teacher that knows nothing pushes hard


loaded = cache(load_recipes)


def dear(name):
    """Those of many arms are trained with the slow tests."""
    slow = name not in ("demo", "imbalance", "quantification", "residual")
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
    if name.startswith("wrn"):  # its width stands in its name
        _, depth, _ = name.split("_")
        return {**model, "name": f"wrn_{depth if deep else 10}_1", "arguments": {}}
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


SARFRAZ = (200, 128, 0.1, (60, 120, 160), 0.2, 5e-4, 0.0)  # arXiv:2007.01922
YUAN = (200, 128, 0.1, (60, 120, 160), 0.2, 5e-4, 1.0)  # arXiv:1909.11723: one epoch of warm-up
TIAN = (240, 64, 0.05, (150, 180, 210), 0.1, 5e-4, 0.0)  # RepDistiller, arXiv:1910.10699
FIVE, THREE = (0, 10, 20, 30, 40), (0, 1, 2)


@pytest.mark.parametrize(
    ("name", "settings", "seeds", "data", "teacher", "student"),
    [
        ("nine-methods", SARFRAZ, FIVE, "cifar100", "wrn_40_2", "wrn_16_2"),
        ("capacity-gap", SARFRAZ, FIVE, "cifar100", "wrn_40_2", "wrn_16_2"),
        ("label-noise", SARFRAZ, FIVE, "cifar10", "resnet26", "resnet8"),
        ("imbalance", SARFRAZ, FIVE, "cifar10", "resnet26", "resnet8"),
        ("teacher-free", YUAN, THREE, "cifar100", "ResNet50", "ResNet18"),
        ("defective", YUAN, THREE, "cifar100", "ResNet50", "ResNet18"),
        ("reversed", YUAN, THREE, "cifar100", "MobileNetV2", "ResNet18"),
        ("demo", TIAN, THREE, "cifar10", "resnet56", "resnet20"),
    ],
)
def test_full_size_has_the_settings_of_its_paper(name, settings, seeds, data, teacher, student):
    for study, recipe in loaded(f"{name}-full").items():
        how = recipe.optimizer
        found = (how.epochs, how.batch_size, how.lr, how.milestones, how.gamma)
        assert (*found, how.weight_decay, how.warmup) == settings
        assert (how.method, how.momentum, how.schedule) == ("sgd", 0.9, "steps")
        assert (recipe.seeds, recipe.data.name) == (seeds, data)
        assert {arm.model.name for arm in recipe.arms.values()} == {student}
        if study in ("", "gap2") or name in ("label-noise", "imbalance"):
            assert recipe.teacher.model.name == teacher
        unchanged = recipe.data.mean == (0, 0, 0) and recipe.data.std == (1, 1, 1)
        assert unchanged == (settings is SARFRAZ)


def test_nine_methods_at_full_size_have_their_weights():
    """RepDistiller's for what the paper does not tell; rkd's angle weighs twice its distance."""
    arms = loaded("nine-methods-full")[""].arms
    assert arms["kd"].loss == "0.1*cross_entropy + 0.9*kd(T=4)"
    wanted = {"at": "1000*at", "sp": "3000*sp", "rkd": "25*rkd"}
    assert {name: arms[name].loss for name in wanted} == {
        name: f"cross_entropy + {term}" for name, term in wanted.items()
    }
    assert arms["bss"].loss == (
        "cross_entropy + 4*kd(T=3, squared=false)@ramp(end=0.25) + 2*bss@ramp(over=0.75)"
    )
    assert arms["fitnet"].stages[0].loss.startswith("100*fitnet(")
    assert arms["fsp"].stages[0].loss.startswith("50*fsp(")
    assert (arms["dml"].together, arms["one"].together, arms["one"].share) == (2, 3, "stage2")


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
