"""A manifest becomes a study, and everything that is wrong with it is said at once."""

import json

import pytest
from handmade import DIGITS, NETWORK, RUNS, run, write_manifest, write_study

from kdprobe.errors import InputError
from kdprobe.manifest import DataEntry, NetworkEntry
from kdprobe.study import epoch_of, load_study

MARKUP = "<script>alert(1)</script>"


def test_a_study_written_by_hand(tmp_path):
    study = load_study(write_study(tmp_path, epochs=(0, 5, 10)))
    assert (study.name, study.data.name) == ("hand", "digits")
    assert [entry.role for entry in study.runs] == ["teacher", "baseline", "student"]
    assert study.teacher is not None
    assert study.teacher.epochs == (0, 5, 10)
    assert study.teacher.last.path == tmp_path / "t" / "epoch-0010.safetensors"
    assert study.common_epochs() == (0, 5, 10)
    assert [(s.id, b.id) for s, b in study.pairs()] == [("s", "b")]
    assert [c.epoch for c in study.runs[1].at({5, 7})] == [5]


def test_pairs_share_a_seed_and_arms_differ_by_it(tmp_path):
    runs = [
        *(run(f"b{seed}", "baseline", seed=seed) for seed in (0, 1)),
        *(run(f"kd{seed}", arm="kd", seed=seed) for seed in (0, 1, 2)),
    ]
    study = load_study(write_study(tmp_path, runs))
    assert [(s.id, b.id) for s, b in study.pairs()] == [("kd0", "b0"), ("kd1", "b1")]
    assert {arm: len(found) for arm, found in study.arms.items()} == {"baseline": 2, "kd": 3}
    assert study.teacher is None


def test_common_epochs_are_those_of_all_learners(tmp_path):
    write_study(tmp_path, epochs=(0, 1, 2))
    (tmp_path / "s" / "epoch-0001.safetensors").unlink()
    (tmp_path / "t" / "epoch-0002.safetensors").unlink()
    assert load_study(tmp_path).common_epochs() == (0, 2)


def test_a_study_of_a_teacher_alone_has_nothing_in_common(tmp_path):
    assert load_study(write_study(tmp_path, RUNS[:1])).common_epochs() == ()


def test_names_may_be_anything_when_the_folder_is_named(tmp_path):
    runs = [run(MARKUP, folder="s"), run("#panic()", "baseline")]
    study = load_study(write_study(tmp_path, runs, name=MARKUP))
    assert study.name == MARKUP
    assert [entry.id for entry in study.runs] == [MARKUP, "#panic()"]
    assert study.runs[0].last.path.parent == tmp_path / "s"


def test_checkpoints_may_be_named_or_found_by_pattern(tmp_path):
    write_study(tmp_path, RUNS[:1], epochs=range(6))
    named = run("t", "teacher", checkpoints=["epoch-0003.*", "*-000[01].safetensors"])
    write_manifest(tmp_path, [named], name="hand", data=DIGITS)
    assert load_study(tmp_path).runs[0].epochs == (0, 1, 3)


@pytest.mark.parametrize("pattern", ["epoch-0009.pt", "*.pth", "", "/epoch-0000.safetensors"])
def test_a_checkpoint_that_is_named_and_missing(tmp_path, pattern):
    runs = [run("t", "teacher", checkpoints=["*.safetensors", pattern])]
    with pytest.raises(InputError, match=r"run 't': found no file .*; restore it or correct"):
        load_study(write_study(tmp_path, runs))


def test_a_run_without_checkpoints(tmp_path):
    write_study(tmp_path, RUNS[:1], epochs=())
    with pytest.raises(InputError, match=r"run 't': found no checkpoint in .* \.safetensors, \.pt"):
        load_study(tmp_path)


def test_two_files_of_one_epoch(tmp_path):
    write_study(tmp_path, RUNS[:1])
    (tmp_path / "t" / "best-1.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"found best-1\.pt and epoch-0001\.\w+, both of epoch 1"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("name", "epoch"),
    [("epoch-0012.safetensors", 12), ("resnet8x4_ckpt_240.pth", 240), ("last.pt", 0)],
)
def test_the_epoch_is_read_from_the_name(tmp_path, name, epoch):
    assert epoch_of(tmp_path / name) == epoch


def test_all_faults_at_once_with_their_places(tmp_path):
    bad = {"id": "s", "role": "pupil", "network": {"num_classes": 0}, "colour": 1}
    write_manifest(tmp_path, [run("t", "teacher"), bad], name="", data={"nam": "digits"})
    with pytest.raises(InputError) as caught:
        load_study(tmp_path)
    told = str(caught.value)
    places = ("name", "data.nam", "runs.1.role", "runs.1.network.num_classes", "runs.1.colour")
    assert f"has {len(places)} faults" in told
    for place in places:
        assert f"\n  {place}: " in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be parsed: .*; mend its syntax"),
        ("", "3 faults"),
        ('name = "x"\nruns = []\ndata = { name = "digits" }', "runs: .* at least 1 item"),
    ],
)
def test_a_broken_manifest(tmp_path, text, message):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_study(tmp_path)


def test_a_manifest_that_is_no_text(tmp_path):
    (tmp_path / "study.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read .*study\.toml.*; restore it"):
        load_study(tmp_path)


@pytest.mark.parametrize(
    ("entry", "facts"),
    [
        (NetworkEntry, {"num_classes": 10}),
        (NetworkEntry, {"name": "resnet8", "factory": "a:b", "num_classes": 10}),
        (DataEntry, {}),
        (DataEntry, {"name": "digits", "factory": "a:b"}),
    ],
)
def test_a_name_or_a_factory(entry, facts):
    with pytest.raises(ValueError, match=r"give either name .* or factory"):
        entry(**facts)


@pytest.mark.parametrize("facts", [{"mean": (0.5, 0.5)}, {"std": (1.0, 0.0, 1.0)}, {"std": ()}])
def test_colours_that_fit_no_image(facts):
    with pytest.raises(ValueError, match="mean and std of one or of three channels, std above 0"):
        NetworkEntry(**NETWORK, **facts)


def test_two_runs_of_one_name_and_two_teachers(tmp_path):
    with pytest.raises(InputError, match="two runs are called 's'; give each run its own id"):
        load_study(write_study(tmp_path / "a", [run("s", seed=0), run("s", seed=1)]))
    with pytest.raises(InputError, match=r"found 2 teachers \(t, u\); wanted one; make a study"):
        load_study(write_study(tmp_path / "b", [run("t", "teacher"), run("u", "teacher")]))


def test_no_folder_and_no_manifest(tmp_path):
    with pytest.raises(InputError, match=r"found no folder .*none; wanted a study folder"):
        load_study(tmp_path / "none")
    with pytest.raises(InputError, match=r"found neither study\.toml nor study\.json in .* README"):
        load_study(tmp_path)


def test_a_trained_study_whose_records_are_broken(tmp_path):
    index = {"name": "x", "data": DIGITS, "runs": ["s"]}
    (tmp_path / "study.json").write_text(json.dumps(index))
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError, match=r"cannot read .*run\.json"):
        load_study(tmp_path)
    for text in ("{", "[]", "{}", '{"run": {"id": "s"}}'):
        (tmp_path / "s" / "run.json").write_text(text)
        with pytest.raises(InputError, match=r"run\.json is not a run record of kdprobe"):
            load_study(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(index | {"schema_version": 2}))
    with pytest.raises(InputError, match="schema_version"):
        load_study(tmp_path)


def test_a_sealed_checkpoint_bears_the_digest_of_its_file(tmp_path):
    last = load_study(write_study(tmp_path, RUNS[:1])).runs[0].last
    sealed = last.sealed()
    assert len(sealed.digest) == 64
    assert sealed.digest != load_study(tmp_path).runs[0].checkpoints[0].sealed().digest
    last.path.unlink()
    with pytest.raises(InputError, match=r"cannot read checkpoint .* \(No such file"):
        last.sealed()


def test_labels_tell_the_settings():
    assert NetworkEntry(**NETWORK).label == "resnet8 (width=2)"
    assert NetworkEntry(factory="own:net", num_classes=2).label == "own:net"


def test_controls_are_learners_of_their_own(tmp_path):
    runs = [*RUNS, run("c", "control", arm="smooth", seed=0)]
    study = load_study(write_study(tmp_path, runs, epochs=(0, 1, 2)))
    assert [entry.id for entry in study.controls] == ["c"]
    assert [entry.id for entry in study.learners] == ["b", "s", "c"]
    assert list(study.arms) == ["baseline", "student", "smooth"]
    assert [(s.id, b.id) for s, b in study.pairs()] == [("s", "b")]
    assert [(s.id, c.id) for s, c in study.control_pairs()] == [("s", "c")]
    (tmp_path / "c" / "epoch-0002.safetensors").unlink()
    assert load_study(tmp_path).common_epochs() == (0, 1), "measured at the same checkpoints"


def test_without_controls_there_are_no_pairs_with_them(tmp_path):
    study = load_study(write_study(tmp_path))
    assert study.controls == study.control_pairs() == ()


def test_an_arm_of_two_roles_is_refused(tmp_path):
    runs = [*RUNS, run("c", "control", arm="student", seed=1)]
    told = "arm 'student' holds runs of role student and of role control; wanted one role an arm"
    with pytest.raises(InputError, match=told):
        load_study(write_study(tmp_path, runs))
