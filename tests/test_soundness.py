"""Every checkpoint is read once before anything is computed."""

import shutil

import pytest
from handmade import RUNS, run, spoil, write_study
from safetensors.torch import load_file, save_file

from kdprobe.errors import InputError
from kdprobe.soundness import check, remarks
from kdprobe.study import load_study


def test_a_sound_study_is_sealed_and_nothing_is_said(tmp_path):
    study, problems = check(load_study(write_study(tmp_path)), ())
    assert problems == ()
    assert all(len(c.digest) == 64 for entry in study.runs for c in entry.checkpoints)


def test_a_checkpoint_that_is_not_numbers_is_named_and_left_out(tmp_path):
    write_study(tmp_path, epochs=(0, 1, 2))
    name = spoil(tmp_path / "s" / "epoch-0001.safetensors")
    study, problems = check(load_study(tmp_path), ())
    assert [entry.epochs for entry in study.runs] == [(0, 1, 2), (0, 1, 2), (0, 2)]
    left_out, remark = problems
    assert (left_out.subject, left_out.left_out, remark.left_out) == ("s, epoch 1", True, False)
    assert f"s/epoch-0001.safetensors: tensor {name!r} holds NaN" in left_out.what
    assert str(tmp_path) not in left_out.what
    assert "different epochs; trajectories use the common ones" in remark.what


def test_a_run_without_any_sound_checkpoint_is_left_out(tmp_path):
    write_study(tmp_path, epochs=(3,))
    spoil(tmp_path / "t" / "epoch-0003.safetensors")
    study, problems = check(load_study(tmp_path), ())
    assert [entry.id for entry in study.runs] == ["b", "s"]
    assert [problem.subject for problem in problems] == ["t, epoch 3"]


def test_a_study_without_any_sound_checkpoint_stops(tmp_path):
    write_study(tmp_path, RUNS[:1], epochs=(0,))
    spoil(tmp_path / "t" / "epoch-0000.safetensors")
    with pytest.raises(InputError, match="no checkpoint of study 'hand' holds finite weights"):
        check(load_study(tmp_path), ())


def test_a_broken_file_stops(tmp_path):
    write_study(tmp_path)
    (tmp_path / "s" / "epoch-0000.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"s/epoch-0000\.safetensors is truncated"):
        check(load_study(tmp_path), ())


def test_what_has_to_be_known_is_remarked(tmp_path):
    runs = [
        run("b", "baseline", schedule="cosine"),
        run("s", schedule="steps", status="running"),
    ]
    found = [(p.subject, p.what) for p in remarks(load_study(write_study(tmp_path, runs)))]
    assert ("s", "its training is not finished; it is analysed as it is") in found
    assert ("hand", "learning-rate schedules differ; weight distances then compare schedules") in (
        found
    )


def test_other_initial_weights_of_a_pair_are_remarked(tmp_path):
    write_study(tmp_path)
    shutil.copy(tmp_path / "s" / "epoch-0001.safetensors", tmp_path / "s/epoch-0000.safetensors")
    _, problems = check(load_study(tmp_path), ())
    assert [(p.subject, p.left_out) for p in problems] == [("s and b", False)]
    assert "began with other weights" in problems[0].what


def test_other_networks_of_a_pair_are_remarked(tmp_path):
    wide = {"name": "resnet8", "num_classes": 10, "arguments": {"width": 3}}
    runs = [run("b", "baseline", seed=0), run("s", seed=0) | {"network": wide}]
    found = remarks(load_study(write_study(tmp_path, runs)))
    assert [(p.subject, p.what) for p in found] == [
        ("s and b", "are compared, but are different networks")
    ]


def test_runs_that_end_apart_are_compared_where_they_meet(tmp_path):
    write_study(tmp_path, epochs=(0, 1, 2))
    (tmp_path / "s" / "epoch-0002.safetensors").unlink()
    study = load_study(tmp_path)
    assert any("at epoch 1, the last they share" in p.what for p in remarks(study))
    assert {run.id: study.final(run).epoch for run in study.runs} == {"t": 2, "b": 1, "s": 1}


def test_a_second_arm_of_baselines_is_remarked(tmp_path):
    runs = [
        run("b", "baseline", seed=0),
        run("ls", "baseline", arm="smoothed", seed=0),
        run("s", seed=0),
    ]
    study = load_study(write_study(tmp_path, runs))
    assert any("baseline arm 'baseline' alone" in p.what for p in remarks(study))
    assert [(s.id, b.id) for s, b in study.pairs()] == [("s", "b")]


def test_a_run_that_is_still_training_is_left_out_beside_finished_ones(tmp_path):
    runs = [*RUNS, run("s1", seed=1, status="running"), run("b1", "baseline", seed=1)]
    study, problems = check(load_study(write_study(tmp_path, runs)), ())
    assert [entry.id for entry in study.runs] == ["t", "b", "s", "b1"]
    assert [(p.subject, p.left_out) for p in problems] == [("s1", True)]


def test_a_study_that_is_all_in_training_is_analysed_as_it_is(tmp_path):
    runs = [run("t", "teacher"), run("s", seed=0, status="running")]
    study, problems = check(load_study(write_study(tmp_path, runs)), ())
    assert [entry.id for entry in study.runs] == ["t", "s"]
    assert "analysed as it is" in problems[0].what


def test_runs_that_share_no_trained_epoch_are_each_at_their_last(tmp_path):
    write_study(tmp_path, epochs=(0, 1, 2))
    (tmp_path / "s" / "epoch-0001.safetensors").rename(tmp_path / "s" / "epoch-0005.safetensors")
    (tmp_path / "s" / "epoch-0002.safetensors").unlink()
    study = load_study(tmp_path)
    assert {run.id: study.final(run).epoch for run in study.runs} == {"t": 2, "b": 2, "s": 5}
    assert any("they are compared each at its last" in p.what for p in remarks(study))


def test_equal_weights_in_other_files_are_equal(tmp_path):
    write_study(tmp_path)
    file = tmp_path / "s" / "epoch-0000.safetensors"
    save_file(load_file(file), file, metadata={"made": "elsewhere"})
    _, problems = check(load_study(tmp_path), ())
    assert problems == ()


def test_a_file_that_was_copied_twice_is_remarked(tmp_path):
    write_study(tmp_path)
    shutil.copy(tmp_path / "b" / "epoch-0001.safetensors", tmp_path / "s")
    _, problems = check(load_study(tmp_path), ())
    assert [p.what for p in problems] == [
        "are compared, but hold the same weights: one file copied twice?"
    ]


CONTROL = run("c", "control", arm="smooth", seed=0)


def test_a_sound_control_needs_no_remark(tmp_path):
    _, problems = check(load_study(write_study(tmp_path, [*RUNS, CONTROL])), ())
    assert problems == ()


def test_another_network_of_a_control_is_remarked(tmp_path):
    wide = {"name": "resnet8", "num_classes": 10, "arguments": {"width": 3}}
    found = remarks(load_study(write_study(tmp_path, [*RUNS, CONTROL | {"network": wide}])))
    assert [(p.subject, p.what) for p in found] == [
        ("s and c", "are compared, but are different networks")
    ]


def test_other_initial_weights_of_a_control_are_remarked(tmp_path):
    write_study(tmp_path, [*RUNS, CONTROL])
    shutil.copy(tmp_path / "c" / "epoch-0001.safetensors", tmp_path / "c/epoch-0000.safetensors")
    _, problems = check(load_study(tmp_path), ())
    assert [p.subject for p in problems] == ["s and c"]
    assert "began with other weights" in problems[0].what


def test_another_schedule_of_a_control_is_remarked(tmp_path):
    runs = [*(entry | {"schedule": "cosine"} for entry in RUNS), CONTROL | {"schedule": "steps"}]
    found = [p.what for p in remarks(load_study(write_study(tmp_path, runs)))]
    assert found == ["learning-rate schedules differ; weight distances then compare schedules"]


def test_a_control_that_is_a_copy_of_the_student_is_remarked(tmp_path):
    write_study(tmp_path, [*RUNS, CONTROL])
    shutil.copy(tmp_path / "s" / "epoch-0001.safetensors", tmp_path / "c")
    _, problems = check(load_study(tmp_path), ())
    assert [(p.subject, p.what) for p in problems] == [
        ("s and c", "are compared, but hold the same weights: one file copied twice?")
    ]
