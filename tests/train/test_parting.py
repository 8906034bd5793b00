"""A cohort that does not fit into memory trains in parts, to the same bits; one run must fit."""

import pytest
from toystudy import RESNET, arm, files, place, recipe, record, trained, untimed

from kdprobe.errors import InputError, RecipeError
from kdprobe.train import memory
from kdprobe.train.memory import Need, need_together
from kdprobe.train.parting import parted
from kdprobe.train.plan import cohorts
from kdprobe.train.rehearsing import rehearse

DROPPED = {**RESNET, "transforms": ["dropout(p=0.2)"]}
ARMS = {
    "base": arm("cross_entropy", role="baseline", model=DROPPED),
    "kd": arm("0.1*cross_entropy + 0.9*kd(T=4)", model=DROPPED),
    "crd": arm("cross_entropy + crd(dim=4)"),
    "pair": arm("cross_entropy + dml", together=2),
}
RUNS = ("teacher", "base-seed0", "kd-seed0", "crd-seed0", "pair-seed0", "pair-seed0.1")
GIVEN = {name: Need(10, 5, 100) for name in ("base", "kd", "crd", "pair")}


def parts_of(there, free, monkeypatch, needs=GIVEN):
    monkeypatch.setattr(memory, "memory_there", lambda device: free)
    return [
        [run.arm for run in part.runs] for part in parted(there, cohorts(there.recipe)[-1], needs)
    ]


@pytest.mark.parametrize(
    ("free", "wanted"),
    [
        (145, [["base", "kd", "crd", "pair"]]),
        (144, [["base", "kd", "crd"], ["pair"]]),
        (134, [["base", "kd"], ["crd", "pair"]]),
        (125, [["base", "kd"], ["crd", "pair"]]),
        (124, [["base"], ["kd"], ["crd"], ["pair"]]),
        (115, [["base"], ["kd"], ["crd"], ["pair"]]),
    ],
)
def test_as_many_train_together_as_fit(free, wanted, monkeypatch, caplog):
    assert parts_of(place(recipe(ARMS)), free, monkeypatch) == wanted
    assert bool(caplog.records) == (len(wanted) > 1)


def test_it_is_said_who_trains_with_whom_and_why(monkeypatch, caplog):
    gib = {name: Need(2**30, 2**29, 2**31) for name in GIVEN}
    parts_of(place(recipe(ARMS)), 5 * 2**30, monkeypatch, gib)
    (told,) = caplog.records
    assert told.getMessage() == (
        "found 5.00 GiB of memory free on cpu, and seed0 with its 4 runs wants about 6.50 GiB: it "
        "trains in 2 parts, one after another: base-seed0, kd-seed0; crd-seed0, pair-seed0"
    )


@pytest.mark.parametrize(
    ("most", "wanted"), [(1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (9, [4])]
)
def test_a_recipe_may_ask_for_fewer_at_once(most, wanted, monkeypatch, caplog):
    there = place(recipe(ARMS, f"at_once={most}"))
    assert list(map(len, parts_of(there, 1000, monkeypatch))) == wanted
    assert not caplog.records, "it was asked for"


def test_memory_may_allow_fewer_than_the_recipe(monkeypatch, caplog):
    there = place(recipe(ARMS, "at_once=3"))
    assert list(map(len, parts_of(there, 125, monkeypatch))) == [2, 2]
    assert not caplog.records, "three at once make two parts too"
    assert list(map(len, parts_of(there, 115, monkeypatch))) == [1, 1, 1, 1]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("value", ["0", "-1", "true", "1.5", "'two'"])
def test_at_once_is_a_number_of_runs(value):
    with pytest.raises(RecipeError, match=r"at_once: found .*; wanted"):
        recipe(ARMS, f"at_once={value}")


def test_a_run_that_does_not_fit_alone_is_refused_with_the_numbers_and_what_to_do(monkeypatch):
    there = place(recipe(ARMS))
    big = {**GIVEN, "kd": Need(2**30, 2**29, 2**31)}
    with pytest.raises(InputError) as error:
        parts_of(there, 2**31, monkeypatch, big)
    assert str(error.value) == (
        "found 2.00 GiB of memory free on cpu; wanted about 3.50 GiB for run 'kd-seed0' and its "
        "teacher: lower optimizer.batch_size (16), raise optimizer.accumulate (1), or choose "
        "smaller networks"
    )


def test_it_is_refused_before_anything_is_trained(monkeypatch, tmp_path):
    """The teacher would fit; one student does not."""
    wide = {"wide": arm("kd", model={"name": "resnet8", "arguments": {"width": 16}})}
    needs = rehearse(place(recipe(wide)))
    assert needs["teacher"].alone < needs["wide"].alone
    monkeypatch.setattr(memory, "memory_there", lambda device: needs["wide"].alone - 1)
    with pytest.raises(InputError, match="for run 'wide-seed0' and its teacher: lower"):
        trained(tmp_path, wide)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_is_finished_needs_no_room(monkeypatch, tmp_path):
    """A large teacher was trained where there was more memory."""
    wide, arms = {"name": "resnet8", "arguments": {"width": 16}}, {"one": arm("cross_entropy")}

    def stop(event):
        if event.what.startswith("seed0"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, arms, teacher=wide, progress=stop)
    needs = rehearse(place(recipe(arms, teacher=wide)))
    monkeypatch.setattr(memory, "memory_there", lambda device: needs["one"].alone)
    assert needs["one"].alone < needs["teacher"].alone
    trained(tmp_path, arms, teacher=wide)
    assert record(tmp_path)["run"]["status"] == "finished"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("whole"), ARMS, "optimizer.epochs=3")


def must_be_alike(folder, whole):
    assert files(folder) == files(whole)
    for run in RUNS:
        assert untimed(folder, run) == untimed(whole, run)
        for key in ("reported", "chosen", "run", "losses", "cost"):
            assert record(folder, run)[key] == record(whole, run)[key]
    assert (folder / "study.json").read_bytes() == (whole / "study.json").read_bytes()
    assert not (folder / "state").exists()


def test_in_parts_for_want_of_memory_they_end_with_the_same_bits(whole, tmp_path, monkeypatch):
    there = place(recipe(ARMS, "optimizer.epochs=3"))
    needs, students = rehearse(there), cohorts(there.recipe)[-1].runs
    free, seen = need_together(students, needs) - 1, []
    monkeypatch.setattr(memory, "memory_there", lambda device: free)
    trained(tmp_path, ARMS, "optimizer.epochs=3", progress=seen.append)
    must_be_alike(tmp_path, whole)
    told = dict.fromkeys(event.what.partition(", epoch")[0] for event in seen)
    assert list(told) == ["teacher", "seed0, part 1 of 2", "seed0, part 2 of 2"]
    assert all(event.done <= event.total for event in seen)


@pytest.mark.parametrize(
    ("first", "then", "step"),
    [
        ([], ["at_once=1"], 9 + 4),  # in the second epoch of all
        ([], ["at_once=3"], 9 + 9),
        (["at_once=1"], [], 9 + 3 * 9 - 2),  # two are finished, the third is in its last epoch
        (["at_once=2"], ["at_once=3"], 9 + 9 + 5),
    ],
)
def test_interrupted_they_go_on_in_other_parts_to_the_same_bits(whole, tmp_path, first, then, step):
    left = [step]

    def stop(event):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, ARMS, "optimizer.epochs=3", *first, progress=stop)
    trained(tmp_path, ARMS, "optimizer.epochs=3", *then)
    must_be_alike(tmp_path, whole)


def test_another_number_at_once_is_the_same_study_and_another_rate_is_not(whole):
    trained(whole, ARMS, "optimizer.epochs=3", "at_once=2")
    with pytest.raises(InputError, match=r"another recipe .*\(optimizer.lr: found 0.05, wanted 1"):
        trained(whole, ARMS, "optimizer.epochs=3", "at_once=2", "optimizer.lr=1.0")
