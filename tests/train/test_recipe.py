"""A recipe's faults come all at once, each with its dotted key, found and wanted."""

import pytest

from kdprobe.errors import InputError, RecipeError, UnknownName
from kdprobe.train.plan import cohorts, schedule_sentence
from kdprobe.train.rates import learning_rate
from kdprobe.train.recipe import load_recipe, load_recipes, packaged_recipes

BAD = """
name = "bad"
seeds = [0, 0]
checkpoints = [0, 3]
precison = "float16"
[data]
name = "photodigit"
shift = "two"
[optimizer]
lr = "fast"
lrr = 3
batch_size = 64
epochs = 4
schedule = "cosin"
[teacher]
model = { name = "resnet8" }
loss = "kd"
[arms.base]
role = "basline"
model = { name = "resnt8" }
loss = "0.1*cross_entropi(smooth=0.1) + kd(T=0) + feature(layr='x')"
[arms.other]
role = "baseline"
model = { name = "resnet8", arguments = { wide = 3 } }
loss = "kd"
[arms."a b"]
role = "student"
model = {}
loss = "0.1*cross_entropy 0.9*kd"
"""

FAULTS = {
    "--set": "found override 'foo'; wanted key.path=value",
    "seeds": "found [0, 0]; wanted each number once",
    "checkpoints": "found [0, 3]; wanted rising epochs from 0 to the last, 4",
    "precison": "did you mean 'precision'?",
    "data.name": "found 'photodigit'; wanted",
    "data.shift": "found 'two'; wanted a valid integer",
    "optimizer.lr": "found 'fast'; wanted a valid number",
    "optimizer.lrr": "did you mean 'lr'?",
    "optimizer.schedule": "did you mean 'cosine'?",
    "teacher.loss": "the teacher has none itself",
    "arms.base.role": "did you mean 'baseline'?",
    "arms.base.model": "did you mean 'resnet8'?",
    "arms.base.loss": "position 5: found 'cross_entropi'; wanted",
    "arms.other.model": "does not take these settings",
    "arms.other.loss": "needs a teacher; a baseline learns from raw data",
    "arms.a b": "it names folders",
    "arms.a b.model.name": "found nothing; wanted a value",
    "arms.a b.loss": "position 19: found '0.9', wanted '+'",
}


def fault_lines(text, tmp_path, overrides=()):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(file, overrides)
    return str(error.value).splitlines()


def test_all_faults_are_told_at_once(tmp_path):
    title, *lines = fault_lines(BAD, tmp_path, ["foo"])
    assert title.endswith(f"has {len(lines)} faults:")
    for key, words in FAULTS.items():
        told = [line for line in lines if line.startswith(f"  {key}: ") and words in line]
        assert told, f"no line says {key}: {words}"
    several = [line for line in lines if line.startswith("  arms.base.loss: ")]
    assert len(several) == 3
    assert "found T=0" in several[1]
    assert "'layr'" in several[2]
    assert "did you mean 'layer'?" in several[2]


def test_a_student_of_no_teacher_is_refused(tmp_path):
    lines = fault_lines(BAD.replace("[teacher]", "[tutor]"), tmp_path)
    assert any(
        "position 33: found 'kd', which needs a teacher; add a [teacher]" in x for x in lines
    )


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("teacher.epochs=3", "teacher.checkpoints"),
        ("teacher.checkpoints=[1, 2]", "teacher.checkpoints"),
        ("optimizer.milestones=[1]", "optimizer.milestones"),
        ("optimizer.schedule=steps", "optimizer.milestones"),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.epochs=2.5", "optimizer.epochs"),
        ("optimizer.momentum='0.9'", "optimizer.momentum"),
        ("data.arguments={trian = 3}", "data.arguments"),
        ("name=../escape", "name"),
        ("arms.teacher={}", "arms.teacher"),
        ("seeds=[-1]", "seeds"),
        ("seeds.first=1", "--set"),
        ("checkpoints=[]", "checkpoints"),
        ("arms={}", "arms"),
        ("optimizer=3", "optimizer"),
    ],
)
def test_each_fault_names_its_key(override, key):
    with pytest.raises(RecipeError) as error:
        load_recipe("tiny", [override])
    assert f"\n  {key}: found" in str(error.value)


def test_overrides_are_toml_or_else_plain_text():
    recipe = load_recipe(
        "tiny", ["optimizer.lr = 1e-3", "seeds=[4]", "arms.kd.loss=0.5*kd(T=2) + 1*cross_entropy"]
    )
    assert (recipe.optimizer.lr, recipe.seeds) == (1e-3, (4,))
    assert recipe.arms["kd"].loss == "0.5*kd(T=2) + 1*cross_entropy"


def test_packaged_recipes_are_sound_and_save_what_they_promise():
    for name in packaged_recipes():
        for study, recipe in load_recipes(name).items():
            assert recipe.name == f"{name}-{study}".removesuffix("-")
    demo = load_recipe("demo")
    assert all(len(cohort.checkpoints) == 8 for cohort in cohorts(demo))
    assert demo.precision == "float16"


def test_names_and_files_that_do_not_exist(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'tiny'"):
        load_recipe("tinny")
    with pytest.raises(InputError, match="cannot read recipe"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "torn.toml").write_text("name = ")
    with pytest.raises(RecipeError, match="is not TOML"):
        load_recipe(tmp_path / "torn.toml")


def test_cohorts_hold_all_arms_of_a_seed_after_the_teacher():
    teacher, *students = cohorts(
        load_recipe(
            "tiny", ["teacher.epochs=4", "checkpoints=[0, 2]", "teacher.checkpoints=[0, 4]"]
        )
    )
    assert (teacher.epochs, teacher.checkpoints, teacher.runs[0].id) == (4, (0, 4), "teacher")
    assert [cohort.seed for cohort in students] == [0, 1]
    ids = [run.id for run in students[1].runs]
    assert ids == ["baseline-seed1", "kd-seed1", "feature-seed1"]
    assert [run.matched_layer for run in students[1].runs] == ["", "", "logits"]


@pytest.mark.parametrize(
    ("overrides", "rates", "words"),
    [
        ([], (0.05, 0.025, 0.0), "cosine from 0.05 to 0"),
        (["optimizer.schedule=constant"], (0.05, 0.05, 0.05), "constant 0.05"),
        (
            ["optimizer.schedule=steps", "optimizer.milestones=[1]", "optimizer.nesterov=true"],
            (0.05, 0.005, 0.005),
            "times 0.1 after epochs 1",
        ),
    ],
)
def test_the_learning_rate_follows_its_schedule(overrides, rates, words):
    recipe = load_recipe("tiny", overrides)
    run = cohorts(recipe)[-1].runs[0]
    span = run.stages[0].span
    found = [learning_rate(recipe.optimizer, span, passed) for passed in (0, 1, 2)]
    assert found == pytest.approx(rates)
    assert words in schedule_sentence(recipe.optimizer, run)


@pytest.mark.parametrize("loss", ["cross_entropy(smoothing=0.1)", "2*cross_entropy", "kd(T=4)"])
def test_a_control_may_learn_from_any_loss(loss):
    arm = "arms.control={role='control', model={name='resnet8'}, loss='" + loss + "'}"
    found = cohorts(load_recipe("tiny", [arm]))[1].runs[-1]
    assert (found.id, found.arm, found.role) == ("control-seed0", "control", "control")
