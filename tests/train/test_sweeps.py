"""A sweep is several studies, each in a folder of its name, and each as if it stood alone."""

import json

import pytest
from toystudy import files

from kdprobe.errors import RecipeError, UnknownName
from kdprobe.study import load_study
from kdprobe.train.loop import folders_of, home_of, recipes_of, train
from kdprobe.train.recipe import load_recipe, load_recipes

FAST = """
[data]
arguments = { train = 20, test = 8 }
[optimizer]
epochs = 1
batch_size = 16
[arms.baseline]
model = { name = "resnet8", arguments = { width = 2 } }
[arms.kd]
model = { name = "resnet8", arguments = { width = 2 } }
[arms.feature]
model = { name = "resnet8", arguments = { width = 2 } }
"""
HEAD = 'base = "tiny"\nname = "mine"\nseeds = [0]\ncheckpoints = "all"\n'
SWEEP = """
[sweep.low]
"optimizer.lr" = 0.01
[sweep.high]
"optimizer.lr" = 0.2
"arms.kd.loss" = "kd(T=2)"
"""


@pytest.fixture
def swept(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(HEAD + FAST + SWEEP)
    return file


def test_each_study_has_its_name_and_its_changes_and_nothing_of_the_others(swept):
    found = load_recipes(swept)
    assert list(found) == ["low", "high"]
    assert [recipe.name for recipe in found.values()] == ["mine-low", "mine-high"]
    assert [recipe.optimizer.lr for recipe in found.values()] == [0.01, 0.2]
    assert found["high"].arms["kd"].loss == "kd(T=2)"
    assert found["low"].arms["kd"].loss == load_recipe("tiny").arms["kd"].loss


def test_overrides_come_on_top_of_the_sweep(swept):
    found = load_recipes(swept, ["optimizer.lr=0.5"])
    assert {recipe.optimizer.lr for recipe in found.values()} == {0.5}


def test_a_recipe_without_a_sweep_is_one_study_called_nothing():
    assert list(load_recipes("tiny")) == [""]


def test_the_studies_lie_in_folders_of_their_names(swept, tmp_path):
    studies = recipes_of(swept, ())
    assert [folder.as_posix() for folder in folders_of(swept, studies, None)] == [
        "checkpoints/mine/low",
        "checkpoints/mine/high",
    ]
    assert home_of(swept, studies, None).as_posix() == "checkpoints/mine"
    assert list(folders_of(swept, studies, tmp_path)) == [tmp_path / "low", tmp_path / "high"]
    alone = recipes_of("tiny", ())
    assert [folder.as_posix() for folder in folders_of("tiny", alone, None)] == ["checkpoints/tiny"]
    assert list(folders_of("tiny", alone, tmp_path)) == [tmp_path]


def test_each_is_trained_as_if_it_stood_alone(swept, tmp_path):
    home = train(swept, out=tmp_path / "out")
    assert home == tmp_path / "out"
    assert sorted(folder.name for folder in home.iterdir()) == ["high", "low"]
    for name, recipe in load_recipes(swept).items():
        assert load_study(home / name).name == f"mine-{name}"
        alone = train(recipe, out=tmp_path / name)
        assert files(home / name) == files(alone)
        assert json.loads((home / name / "recipe.json").read_text())["name"] == f"mine-{name}"
    assert files(home / "low") != files(home / "high")


def test_gone_on_with_it_trains_what_is_left(swept, tmp_path):
    seen = []

    def stop(event):
        seen.append(event)
        if len(seen) == 6:  # two steps a cohort, two cohorts a study: within the second study
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(swept, out=tmp_path / "out", progress=stop)
    first = files(tmp_path / "out" / "low")
    train(swept, out=tmp_path / "out")
    assert files(tmp_path / "out" / "low") == first
    assert load_study(tmp_path / "out" / "high").runs[-1].entry.status == "finished"


def test_a_key_of_the_sweep_that_is_none_is_told_with_its_study(swept):
    swept.write_text(HEAD + FAST + '[sweep.odd]\n"optimizer.lrr" = 1\n"name.x" = 2\n')
    with pytest.raises(RecipeError) as error:
        load_recipes(swept)
    told = str(error.value)
    assert "study odd has 2 faults" in told
    assert "found key 'name.x' in the sweep; wanted key.path=value" in told
    assert "optimizer.lrr: found an unknown key; wanted" in told


def test_a_base_that_is_not_there_is_told(tmp_path):
    (tmp_path / "mine.toml").write_text('base = "tinny"\n')
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        load_recipe(tmp_path / "mine.toml")


def test_a_sweep_of_a_base_is_taken_over(swept, tmp_path):
    above = tmp_path / "above.toml"
    above.write_text('base = "mine.toml"\nname = "above"\n[sweep.low]\n"optimizer.lr" = 0.02\n')
    found = load_recipes(above)
    assert [(recipe.name, recipe.optimizer.lr) for recipe in found.values()] == [
        ("above-low", 0.02),
        ("above-high", 0.2),
    ]


@pytest.mark.parametrize("name", ["../escape", "", "a b", "."])
def test_a_study_whose_name_is_no_folder_is_refused(swept, name):
    """It would be written elsewhere than under the sweep's folder."""
    swept.write_text(HEAD + FAST + f'[sweep."{name}"]\nseeds = [0]\n')
    with pytest.raises(RecipeError, match=r"found the sweep's study '.*it names a folder"):
        load_recipes(swept)


def test_a_base_that_leads_back_to_itself_is_refused(tmp_path):
    (tmp_path / "one.toml").write_text('base = "two.toml"\n')
    (tmp_path / "two.toml").write_text('base = "one.toml"\n')
    (tmp_path / "own.toml").write_text('base = "own.toml"\n')
    with pytest.raises(RecipeError, match=r"own.toml: found base = 'own.toml', which begins"):
        load_recipe(tmp_path / "own.toml")
    with pytest.raises(RecipeError, match=r"two.toml: found base = 'one.toml', which be"):
        load_recipe(tmp_path / "one.toml")
