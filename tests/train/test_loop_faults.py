"""Every fault of a recipe: a table or an override that has it, its key, and what is told."""

import re
import tomllib
from importlib import resources

import pytest

from kdprobe.errors import RecipeError
from kdprobe.train.raw import at
from kdprobe.train.recipe import load_recipe, load_recipes, settle

NET = "model={name='resnet8', arguments={width=4}}"
SEARCH = "search={family='resnet{depth}', depths=[8], widths=[4], "
QUANTIZE = "arms.kd.techniques=['quantize(after=true)']"


def tiny():
    text = resources.files("kdprobe.train").joinpath("recipes", "tiny.toml").read_text()
    return tomllib.loads(text)


def faults(*overrides, without=()):
    """The lines of faults of "tiny" with `overrides`, and without some of its tables."""
    raw = {key: value for key, value in tiny().items() if key not in without}
    with pytest.raises(RecipeError) as error:
        settle(raw, overrides, title="recipe tiny")
    title, *lines = str(error.value).splitlines()
    assert title == f"recipe tiny has {len(lines)} fault{'s' * (len(lines) > 1)}:"
    return lines


def arm(text, name="new"):
    return f"arms.{name}={{role='student', {NET}, {text}}}"


CASES = {
    # of the data
    "no spread of a colour": (
        ["data.std=[0.0, 0.2, 0.2]"],
        "data.std.0: found 0.0; wanted greater than 0",
    ),
    "unknown corruption": (
        ["data.corrupt=['label_nois(rate=0.4)']"],
        "data.corrupt: found 'label_nois'; wanted .*did you mean 'label_noise'",
    ),
    "corruption's knob": (
        ["data.corrupt=['label_noise(rat=0.4)']"],
        "data.corrupt: found 'label_noise' with knob 'rat'; wanted .*did you mean 'rate'",
    ),
    "corruption's value": (
        ["data.corrupt=['label_noise(rate=4)']"],
        "data.corrupt: found 'label_noise': found rate=4; wanted a share",
    ),
    "corruption's syntax": (["data.corrupt=['label_noise(']"], "data.corrupt: position "),
    "unknown augmentation": (
        ["data.augment=['flipp']"],
        "data.augment: found 'flipp'; wanted .*did you mean 'flip'",
    ),
    "augmentation's value": (
        ["data.augment=['flip', 'mixup(alpha=0)']"],
        "data.augment: found 'mixup': found alpha=0; wanted a number above 0",
    ),
    "cache beside shift": (
        ["cache_teacher=true"],
        "cache_teacher: found true beside data.shift or data.augment; wanted views that stay",
    ),
    "cache beside augment": (
        ["cache_teacher=true", "data.shift=0", "data.augment=['flip']"],
        "cache_teacher: found true beside data.shift or data.augment; wanted views that stay",
    ),
    "unknown data": (
        ["data.name=photodigit"],
        "data.name: found 'photodigit'; wanted .*did you mean 'photodigits'",
    ),
    "data's arguments": (
        ["data.arguments={trian=3}"],
        r"data.arguments: found \{'trian': 3\} \(.*trian.*\); wanted train, test, seed",
    ),
    # of seeds and names
    "seed twice": (["seeds=[1, 1]"], r"seeds: found \[1, 1\]; wanted each number once"),
    "seed below 0": (["seeds=[-1]"], r"seeds: found \[-1\]; wanted .* none below 0"),
    "name of an arm": (
        [arm("loss='kd'", name='"a b"').replace('"', "")],
        "arms.a b: found this name; wanted letters, digits, '_' and '-'",
    ),
    "an arm called teacher": (
        [arm("loss='kd'", name="teacher")],
        "arms.teacher: found this name; wanted .* and not 'teacher'",
    ),
    # of networks
    "unknown technique": (
        ["arms.kd.techniques=['prun(amount=0.5)']"],
        "arms.kd.techniques: found 'prun'; wanted .*did you mean 'prune'",
    ),
    "technique's knob": (
        ["arms.kd.techniques=['prune(amont=0.5)']"],
        "arms.kd.techniques: found 'prune' with knob 'amont'; wanted .*did you mean 'amount'",
    ),
    "technique's value": (
        ["teacher.techniques=['quantize(freeze=0)']"],
        "teacher.techniques: found 'quantize': found freeze=0, so ranges would never be seen",
    ),
    "unknown transform": (
        ["arms.kd.model.transforms=['strip_skip']"],
        "arms.kd.model: found 'resnet8': .*strip_skips",
    ),
    "unknown model": (
        ["teacher.model.name=resnt8"],
        "teacher.model: found 'resnt8': no model is called 'resnt8'.*did you mean 'resnet8'",
    ),
    "model's knob": (
        ["arms.kd.model.arguments={wide=3}"],
        "arms.kd.model: found 'resnet8': .*does not take these settings",
    ),
    "frozen path": (
        [arm("stages=[{epochs=2, loss='kd', freeze=['layer']}]")],
        "arms.new.stages: found freeze 'layer'; wanted a module path.*did you mean 'layer",
    ),
    # of stages and epochs
    "stages too short": (
        ["optimizer.epochs=5", "checkpoints=all"]
        + [arm("stages=[{epochs=1, loss='kd'}, {epochs=2, loss='kd'}]")],
        r"arms.new.stages: found 1 \+ 2 epochs; wanted 5 together",
    ),
    "loss and stages": (
        [arm("loss='kd', stages=[{epochs=2, loss='kd'}]")],
        "arms.new: found no loss, or both loss and stages; wanted one of the two",
    ),
    "neither loss nor stages": (
        [arm("together=1")],
        "arms.new: found no loss, or both loss and stages; wanted one of the two",
    ),
    "checkpoints without the last": (
        ["checkpoints=[0, 1]"],
        r"checkpoints: found \[0, 1\]; wanted rising epochs from 0 to the last, 2",
    ),
    "checkpoints that fall": (
        ["checkpoints=[0, 2, 1, 2]"],
        r"checkpoints: found \[0, 2, 1, 2\]; wanted rising epochs",
    ),
    "checkpoints of the teacher": (
        ["teacher.checkpoints=[1, 2]"],
        r"teacher.checkpoints: found \[1, 2\]; wanted rising epochs from 0 to the last, 2",
    ),
    "a longer teacher": (
        ["teacher.epochs=3"],
        "teacher.checkpoints: found nothing; wanted .* the teacher trains 3 epochs and the arms 2",
    ),
    "milestones elsewhere": (
        ["optimizer.milestones=[1]"],
        r"optimizer.milestones: found \[1\] with schedule None; wanted epochs where",
    ),
    "steps without milestones": (
        ["optimizer.schedule=steps"],
        "optimizer.milestones: found None with schedule 'steps'; wanted epochs where",
    ),
    # of validation
    "patience": (
        ["optimizer.patience=1", "data.validation=0"],
        "data.validation: found 0; wanted a share above 0, for optimizer.patience choose by it",
    ),
    "predictions": (
        ["predictions=true", "data.validation=0.0"],
        "data.validation: found 0; wanted a share above 0, for predictions choose by it",
    ),
    "several networks": (
        [arm("loss='dml', together=2"), "predictions=true", "data.validation=0"],
        "data.validation: found 0; wanted .*, for arms.new.together, predictions choose by it",
    ),
    "rounding after patience": (
        [QUANTIZE, "arms.kd.model.transforms=['fake_quant']", "optimizer.patience=1"],
        r"arms.kd.techniques: found 'quantize\(after=true\)'; wanted no optimizer.patience",
    ),
    "pruning after patience": (
        [
            arm("loss='kd', techniques=['prune(amount=0.5, start=1, end=2)']"),
            "optimizer.patience=1",
        ],
        r"arms.new.techniques: found 'prune\(.*'; wanted no optimizer.patience",
    ),
    "pruning of shared layers": (
        [arm("loss='one', together=2, share='stage2', techniques=['prune(amount=0.5)']")],
        r"arms.new.techniques: found 'prune\(amount=0.5\)'; wanted none beside share",
    ),
    "stages after patience": (
        [arm("stages=[{epochs=2, loss='kd'}]"), "optimizer.epochs=2", "optimizer.patience=1"],
        "arms.new.stages: found stages; wanted no optimizer.patience",
    ),
    "a search without validation": (
        [
            SEARCH + "macs=10, count=1, losses={ce='cross_entropy'}}",
            "data.validation=0.0",
        ],
        "data.validation: found 0; wanted a share above 0, for search choose by it",
    ),
    "best without validation": (
        [arm("loss='kd', teacher={epoch='best'}"), "data.validation=0.0"],
        "arms.new.teacher.epoch: found 'best'; wanted data.validation above 0",
    ),
    # of sources
    "unknown teacher": (
        [arm("loss='kd', teacher={run='baselin'}")],
        "arms.new.teacher.run: found 'baselin'; wanted .*did you mean 'baseline'",
    ),
    "unknown start": (
        [arm("loss='kd', start={run='kdd'}")],
        "arms.new.start.run: found 'kdd'; wanted .*did you mean 'kd'",
    ),
    "unsaved epoch": (
        ["checkpoints=[0, 2]", arm("loss='kd', teacher={run='baseline', epoch=1}")],
        "arms.new.teacher.epoch: found 1; wanted a saved one: 0, 2",
    ),
    "unsaved epoch of the teacher": (
        ["teacher.checkpoints=[0, 2]", arm("loss='kd', start={epoch=1}")],
        "arms.new.start.epoch: found 1; wanted a saved one: 0, 2",
    ),
    "a circle of two": (
        [arm("loss='kd', teacher={run='b'}", "a"), arm("loss='kd', start={run='a'}", "b")],
        "arms.a: found arms that wait for each other: a, b",
    ),
    "a circle of one": (
        [arm("loss='kd', teacher={run='new'}")],
        "arms.new: found arms that wait for each other: new",
    ),
    "teacher with both": (
        ["teacher.study=elsewhere"],
        "teacher: found no model, or both model and study; wanted one of the two",
    ),
    "share of one": (
        [arm("loss='cross_entropy', share='stage2'")],
        "arms.new.share: found one network; wanted together = 2 or more",
    ),
    # of losses
    "company": (
        [arm("loss='cross_entropy + dml', together=1")],
        "arms.new.loss: position 17: found 'dml', which needs other networks; set together = 2",
    ),
    "unknown schedule": (
        [arm("loss='kd@warmupp'")],
        "arms.new.loss: position 1: found 'kd': .*'warmupp'; wanted .*did you mean 'warmup'",
    ),
    "loss in a stage": (
        [arm("stages=[{epochs=1, loss='kd'}, {epochs=1, loss='kdd'}]")],
        "arms.new.stages.1.loss: position 1: found 'kdd'; wanted .*did you mean",
    ),
    "loss's syntax": ([arm("loss='kd +'")], "arms.new.loss: position "),
    "loss's knob": (
        [arm("loss='kd(t=4)'")],
        "arms.new.loss: position 1: found 'kd' with knob 't'; wanted .*T",
    ),
    "loss's value": (
        [arm("loss='kd(T=0)'")],
        "arms.new.loss: position 1: found 'kd': found T=0",
    ),
    "a baseline that is taught": (
        ["arms.baseline.loss=kd"],
        "arms.baseline.loss: position 1: found 'kd', which needs a teacher; a baseline learns from",
    ),
    "a teacher that is taught": (
        ["teacher.loss=kd"],
        "teacher.loss: position 1: found 'kd', which needs a teacher; the teacher has none itself",
    ),
    # of a search
    "a budget that nothing fits": (
        [SEARCH + "macs=10, count=1, losses={ce='cross_entropy'}}"],
        "search: found 0 of 1 networks 'resnet{depth}' within 10 multiply-adds; wanted 1: raise",
    ),
    "a reference with a teacher": (
        [SEARCH + "macs=1e9, count=1, losses={kd='kd'}}"],
        "search: found losses.kd, the first one, with a teacher; wanted the reference first",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_names_its_key_and_says_what_was_found_and_wanted(case):
    overrides, told = CASES[case]
    lines = faults(*overrides)
    assert any(re.match(f"  {told}", line) for line in lines), lines


def test_what_needs_a_teacher_is_refused_without_one():
    lines = faults(without=("teacher",))
    told = "which needs a teacher; add a [teacher] table"
    assert [line.split(":")[0] for line in lines if told in line] == [
        "  arms.kd.loss",
        "  arms.feature.loss",
    ]
    begun = faults(arm("loss='cross_entropy', start={}"), without=("teacher",))
    assert any(line.startswith("  arms.new.start.run: found 'teacher'; wanted ") for line in begun)


def test_a_teacher_of_neither_kind_is_refused():
    raw = tiny() | {"teacher": {"seed": 1}}
    with pytest.raises(RecipeError, match="teacher: found no model, or both model and study"):
        settle(raw, title="recipe tiny")


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.corrupt=['fraction(share=0.5)']", "data.augment=['flip', 'mixup']"],
        ["cache_teacher=true", "data.shift=0"],
        [QUANTIZE, "arms.kd.model.transforms=['fake_quant']"],
        [arm("stages=[{epochs=1, loss='kd', freeze=['layer1']}, {epochs=1, loss='kd', lr=1}]")],
        [arm("loss='dml', together=2, share='stage2'")],
        [arm("loss='kd@until(epoch=1)', teacher={run='baseline', epoch='best'}, start={epoch=0}")],
        [arm("loss='kd', teacher={run='b'}", "a"), arm("loss='kd', teacher={run='kd'}", "b")],
        ["teacher.epochs=3", "teacher.checkpoints=auto"],
        ["data.validation=0"],
    ],
)
def test_what_fits_together_is_no_fault(overrides):
    assert settle(tiny(), overrides, title="recipe tiny").name == "tiny"


def test_several_faults_are_told_in_one_message():
    lines = faults("seeds=[0, 0]", "data.augment=['flipp']", "arms.kd.loss=kdd")
    assert [line.split(":")[0].strip() for line in lines] == [
        "seeds",
        "data.augment",
        "arms.kd.loss",
    ]


def written(tmp_path, text):
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return file


def test_a_base_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="found base = 3; wanted the name of a recipe"):
        load_recipe(written(tmp_path, "base = 3"))


@pytest.mark.parametrize(
    "sweep",
    [
        "sweep = 3",
        "sweep = ['fast']",
        "sweep = {}",
        "sweep = []",
        "[sweep]\na = 1",
    ],
)
def test_a_sweep_that_is_no_table_of_tables_is_refused(tmp_path, sweep):
    with pytest.raises(RecipeError, match=r"found sweep = .*; wanted tables \[sweep.NAME\]"):
        load_recipes(written(tmp_path, f'base = "tiny"\n{sweep}'))


SWEEP = 'base = "tiny"\n[sweep.slow]\n"optimizer.lr" = 0.01\n[sweep.fast]\n"optimizer.lr" = 0.1\n'


def test_a_sweep_is_several_studies_and_one_cannot_be_loaded(tmp_path):
    file = written(tmp_path, SWEEP)
    found = load_recipes(file, ["seeds=[3]"])
    assert {name: one.optimizer.lr for name, one in found.items()} == {"slow": 0.01, "fast": 0.1}
    assert [(one.name, one.seeds) for one in found.values()] == [
        ("tiny-slow", (3,)),
        ("tiny-fast", (3,)),
    ]
    with pytest.raises(RecipeError, match=r"is a sweep of 2 studies \(slow, fast\); wanted one"):
        load_recipe(file)


def test_a_key_of_a_sweep_that_leads_nowhere_is_a_fault_of_its_study(tmp_path):
    file = written(tmp_path, 'base = "tiny"\n[sweep.a]\n"seeds.first" = 1\n')
    with pytest.raises(
        RecipeError, match=r"study a has .*\n.*found key 'seeds.first' in the sweep"
    ):
        load_recipes(file)


def test_values_of_another_kind_are_not_looked_at():
    raw = {"a": {"b": 3, "c": True}, "d": [1]}
    assert at(raw, "a.b", int) == 3
    assert at(raw, "d", list) == [1]
    for key, kind in (("a.b", str), ("a.c", int), ("a.x", int), ("a.b.c", int), ("d.0", int)):
        assert at(raw, key, kind) is None
