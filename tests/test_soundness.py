"""Every checkpoint is read once before anything is computed."""

import pytest
from handmade import RUNS, run, spoil, write_study

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
    found = {p.subject: p.what for p in remarks(load_study(write_study(tmp_path, runs)))}
    assert found["s"] == "its training is not finished; it is analysed as it is"
    assert "different learning-rate schedules" in found["hand"]
