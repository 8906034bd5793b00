"""Any saved checkpoint can teach, or be where a run begins."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from toystudy import RESNET, arm, far, files, network, recipe, record, same, seen, trained, weights

from kdprobe.errors import InputError, RecipeError
from kdprobe.train.plan import cohorts
from kdprobe.train.rates import learning_rate
from kdprobe.train.settings import Source
from kdprobe.train.sources import reported, source_file

WIDER = {"name": "resnet8", "arguments": {"width": 3}}
KD = "cross_entropy + kd(T=4)"


def base(**more):
    return arm("cross_entropy", role="baseline", **more)


def by_hand(arms, folder, teacher, *changes, epochs=2):
    """The student of arm `one`, trained by a plain loop on what a frozen network answers."""
    wanted = recipe(arms, *changes)
    plan = next(c for c in cohorts(wanted) if any(run.arm == "one" for run in c.runs))
    span = plan.runs[0].stages[0].span
    student, teacher = network(folder), teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=1, momentum=0.9, weight_decay=5e-4)
    for epoch in range(1, epochs + 1):
        batches = seen(wanted, epoch)
        for step, (pixels, target) in enumerate(batches):
            with torch.no_grad():
                told = (teacher(pixels) / 4).softmax(1)
            logits = student(pixels)
            soft = (logits / 4).log_softmax(1)
            kd = 16 * (told * (told.log() - soft)).sum(1).mean()
            optimizer.zero_grad()
            (F.cross_entropy(logits, target) + kd).backward()
            passed = epoch - 1 + step / len(batches)
            optimizer.param_groups[0]["lr"] = learning_rate(wanted.optimizer, span, passed)
            optimizer.step()
    return student.body.state_dict()


@pytest.mark.parametrize("epoch", [0, 1, "last"])
def test_the_teacher_is_the_file_of_its_epoch(tmp_path, epoch):
    """0 is a random teacher, and 1 one that stopped early."""
    arms = {"one": arm(KD, teacher={"epoch": epoch})}
    folder = trained(tmp_path, arms)
    file = f"teacher/epoch-000{2 if epoch == 'last' else epoch}.safetensors"
    assert record(folder)["teacher"]["file"] == file
    teacher = network(folder, "teacher", 2 if epoch == "last" else epoch)
    assert far(by_hand(arms, folder, teacher), weights(folder, "one-seed0", 2)) < 1e-4


def test_three_epochs_of_a_teacher_teach_three_arms_in_one_cohort(tmp_path):
    arms = {name: arm(KD, teacher={"epoch": at}) for name, at in (("a", 0), ("b", 1), ("c", 2))}
    together = trained(tmp_path / "together", arms)
    for name, one in arms.items():
        alone = trained(tmp_path / name, {name: one})
        assert same(weights(together, f"{name}-seed0", 2), weights(alone, f"{name}-seed0", 2))


def test_another_arm_of_the_same_seed_teaches_after_it_is_trained(tmp_path):
    arms = {
        "one": arm(KD, teacher={"run": "late"}),
        "late": arm(KD, teacher={"run": "base"}),
        "base": base(),
        "free": base(),
    }
    plans = cohorts(recipe(arms, "seeds=[0, 3]"))
    told = [(plan.name, [run.id for run in plan.runs]) for plan in plans]
    assert told == [
        ("teacher", ["teacher"]),
        ("seed0", ["base-seed0", "free-seed0"]),
        ("seed0-2", ["late-seed0"]),
        ("seed0-3", ["one-seed0"]),
        ("seed3", ["base-seed3", "free-seed3"]),
        ("seed3-2", ["late-seed3"]),
        ("seed3-3", ["one-seed3"]),
    ]
    folder = trained(tmp_path, arms, "seeds=[0, 3]", teacher=None)
    for seed in (0, 3):
        found = record(folder, f"one-seed{seed}")["teacher"]
        assert found["file"] == f"late-seed{seed}/epoch-0002.safetensors"
    teacher = network(folder, "base-seed0", 2)
    made = by_hand({"one": arms["late"], "base": base()}, renamed(folder), teacher)
    assert far(made, weights(folder, "late-seed0", 2)) < 1e-4


def renamed(folder):
    """The same study with the run of arm `late` under the name of `one`."""
    (folder / "one-seed0").rename(folder / "old-seed0")
    (folder / "one-seed0").symlink_to(folder / "late-seed0")
    return folder


def test_a_teacher_of_other_width_in_another_arm_is_built_as_that_arm_is(tmp_path):
    arms = {"one": arm("cross_entropy + at", teacher={"run": "wide"}), "wide": base(model=WIDER)}
    folder = trained(tmp_path, arms, teacher=None)
    assert record(folder)["teacher"]["run"] == "wide-seed0"


def test_best_is_the_epoch_that_validation_chose(tmp_path):
    arms = {
        "one": arm(KD, teacher={"run": "base", "epoch": "best"}),
        "base": base(),
    }
    folder = trained(tmp_path, arms, "data.validation=0.4", "optimizer.epochs=3")
    best = record(folder, "base-seed0")["reported"]["best_validation"]["epoch"]
    found = record(folder)["teacher"]
    assert found["file"] == f"base-seed0/best/epoch-000{best}.safetensors"
    kept = load_file(folder / found["file"])
    assert same(kept, weights(folder, "base-seed0", best))


def test_of_several_networks_the_chosen_one_teaches(tmp_path):
    pair = arm("cross_entropy + dml", together=2)
    for seed in range(6):
        folder = tmp_path / str(seed)
        arms = {"one": arm(KD, teacher={"run": "pair"}), "pair": pair}
        trained(folder, arms, f"seeds=[{seed}]", "optimizer.lr=0.2", teacher=None)
        names = [f"pair-seed{seed}", f"pair-seed{seed}.1"]
        best = next(name for name in names if record(folder, name)["chosen"])
        assert record(folder, f"one-seed{seed}")["teacher"]["run"] == best
        if best == names[1]:
            return
    pytest.fail("the second network was never chosen: try other seeds")


def test_start_is_where_a_run_begins_bit_for_bit(tmp_path):
    arms = {
        "one": arm("cross_entropy", start={"run": "base", "epoch": 1}),
        "own": arm(KD, start={"run": "teacher"}),
        "base": base(),
    }
    folder = trained(tmp_path, arms)
    assert same(weights(folder, "one-seed0", 0), weights(folder, "base-seed0", 1))
    assert same(weights(folder, "own-seed0", 0), weights(folder, "teacher", 2))
    assert not same(weights(folder, "one-seed0", 0), weights(folder, "one-seed0", 2))


def test_both_of_two_networks_begin_where_they_are_told(tmp_path):
    arms = {"one": arm("cross_entropy + dml", together=2, start={"run": "base"}), "base": base()}
    folder = trained(tmp_path, arms, teacher=None)
    for run in ("one-seed0", "one-seed0.1"):
        assert same(weights(folder, run, 0), weights(folder, "base-seed0", 2))


def test_weights_of_another_architecture_are_refused_before_a_step(tmp_path):
    arms = {"one": arm("cross_entropy", start={"run": "teacher"})}
    told = r"run 'one-seed0' begins with weights of another network: 'bn1.bias' has shape \(3,\) "
    with pytest.raises(InputError, match=told + r"there and \(2,\) here .* correct 'start' or 'mo"):
        trained(tmp_path, arms, teacher=WIDER)
    assert not (tmp_path / "one-seed0").exists()


@pytest.mark.parametrize(
    ("arms", "key", "words"),
    [
        (
            {
                "one": arm(KD, teacher={"run": "two"}),
                "two": arm("cross_entropy", start={"run": "one"}),
            },
            "arms.one",
            "found arms that wait for each other: one, two",
        ),
        (
            {"one": arm(KD, teacher={"run": "one"})},
            "arms.one",
            "found arms that wait for each other: one",
        ),
        (
            {"one": arm(KD, teacher={"run": "teachr"})},
            "arms.one.teacher.run",
            "found 'teachr'; wanted one, teacher; did you mean 'teacher'?",
        ),
        (
            {"one": arm(KD, start={"run": "nobody"})},
            "arms.one.start.run",
            "found 'nobody'; wanted one, teacher",
        ),
    ],
)
def test_those_who_are_not_there_or_wait_for_each_other_are_refused(arms, key, words):
    with pytest.raises(RecipeError) as error:
        recipe(arms)
    assert f"\n  {key}: {words}" in str(error.value)


def test_an_epoch_that_is_not_saved_is_refused():
    arms = {"one": arm(KD, teacher={"epoch": 1}), "two": arm(KD, start={"epoch": 1})}
    with pytest.raises(RecipeError) as error:
        recipe(arms, checkpoints=[0, 2])
    for key in ("arms.one.teacher.epoch", "arms.two.start.epoch"):
        assert f"\n  {key}: found 1; wanted a saved one: 0, 2" in str(error.value)


def test_the_teachers_own_list_of_checkpoints_counts_for_the_teacher_alone():
    arms = {
        "one": arm(KD, teacher={"epoch": 1}),
        "two": arm(KD, teacher={"run": "base", "epoch": 1}),
        "base": base(),
    }
    own = {"checkpoints": [0, 2], "teacher": RESNET}
    with pytest.raises(RecipeError) as error:
        recipe(arms, "teacher.checkpoints=[0, 1, 2]", **own)
    assert "arms.one" not in str(error.value)
    assert "\n  arms.two.teacher.epoch: found 1; wanted a saved one: 0, 2" in str(error.value)


def test_best_wants_validation():
    arms = {"one": arm(KD, teacher={"epoch": "best"})}
    with pytest.raises(RecipeError, match=r"teacher.epoch: found 'best'; wanted data.validation"):
        recipe(arms, "data.validation=0.0")


def test_nobody_to_begin_with_is_refused_without_a_teacher():
    with pytest.raises(RecipeError, match=r"arms.one.start.run: found 'teacher'; wanted one"):
        recipe({"one": arm("cross_entropy", start={})}, teacher=None)


def test_a_file_that_is_gone_is_told_of(tmp_path):
    folder = trained(tmp_path, {"one": arm("cross_entropy")}, teacher=None)
    with pytest.raises(InputError, match=r"found no checkpoint of epoch 7 in .*one-seed0; wanted"):
        source_file(folder, Source(run="one", epoch=7), 0)
    with pytest.raises(InputError, match=r"found no checkpoint of epoch 'last' in .*teacher"):
        source_file(folder, Source(), 0)
    assert source_file(folder, Source(run="one"), 0).name == "epoch-0002.safetensors"
    assert reported(folder, "one", 0) == "one-seed0"


@pytest.mark.parametrize("word", ["auto", "all", None])
def test_an_epoch_that_a_schedule_does_not_keep_is_told_before_training(word):
    arms = {"one": arm(KD, teacher={"epoch": 41}), "two": arm(KD, teacher={"epoch": 15})}
    with pytest.raises(RecipeError) as error:
        recipe(arms, "optimizer.epochs=40", **({"checkpoints": word} if word else {}))
    last = "34, 36, 38, 39, 40" if word == "auto" else "36, 37, 38, 39, 40"
    assert f"arms.one.teacher.epoch: found 41; wanted a saved one: {last}" in str(error.value)
    told = "arms.two.teacher.epoch: found 15; wanted a saved one: 10, 12, 14, 16, 18"
    assert (told in str(error.value)) == (word == "auto")


def test_nothing_is_said_of_epochs_where_the_optimizer_is_ill_typed():
    with pytest.raises(RecipeError) as error:
        recipe({"one": arm(KD, teacher={"epoch": 41})}, "optimizer.epochs=many")
    assert "teacher.epoch" not in str(error.value)


def test_looking_at_a_teacher_changes_none_of_its_bits(tmp_path):
    folder = trained(tmp_path, {"one": arm(KD)})
    before = json.loads((folder / "teacher" / "run.json").read_text())
    alone = trained(tmp_path / "alone", {"one": arm("cross_entropy")})
    ours = {k: v for k, v in files(folder).items() if k.startswith("teacher/")}
    theirs = {k: v for k, v in files(alone).items() if k.startswith("teacher/")}
    assert ours == theirs
    assert before["teacher"] is None
