"""Killed between any two files, with everything on: it goes on to the same bits.

Killed between steps it is in test_resume_whole.py, and a plain recipe in test_resume.py.
"""

import pytest
import torch
from safetensors.torch import load_file
from toystudy import RESNET, Killed, arm, dying, files, lines, record, trained, untimed

from kdprobe.study import load_study
from kdprobe.train import cohort

DROPPED = {**RESNET, "transforms": ["dropout(p=0.2)"]}
STAGES = [
    {"epochs": 1, "loss": "0.1*fitnet(layer='stage2')", "freeze": ["conv1", "bn1"]},
    {"epochs": 2, "loss": "cross_entropy + dml + 0.1*crd(dim=4)"},
]
ARMS = {
    "base": arm("cross_entropy", role="baseline", model=DROPPED),
    "pair": arm(stages=STAGES, together=2, model=DROPPED),
}
HOW = [
    "optimizer.epochs=3",
    "optimizer.method=adam",
    "optimizer.lr=0.003",
    "optimizer.ema=0.9",
    "data.augment=['flip', 'mixup(alpha=0.4)']",
    "data.corrupt=['label_noise(rate=0.3)']",
    "data.validation=0.2",
]
MORE = {"predictions": True, "checkpoints": [0, 1, 3]}
RUNS = ("teacher", "base-seed0", "pair-seed0", "pair-seed0.1")


def learn(folder, *changes, **more):
    return trained(folder, ARMS, *HOW, *changes, **MORE, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return learn(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def renamings(tmp_path_factory):
    """How many files a training puts in place, which is where it can be killed."""
    with pytest.MonkeyPatch.context() as patch:
        left = dying(patch, 10**6, after=True)
        learn(tmp_path_factory.mktemp("counted"))
    return 10**6 - left[0]


def must_be_alike(folder, whole):
    ours, theirs = files(folder), files(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    for run in RUNS:
        assert untimed(folder, run) == untimed(whole, run), run
        for key in ("reported", "chosen", "cost", "run", "losses"):
            assert record(folder, run)[key] == record(whole, run)[key], (run, key)
    assert (folder / "study.json").read_bytes() == (whole / "study.json").read_bytes()
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "state").exists()


@pytest.mark.parametrize(
    "part", [0.62, *(pytest.param(part, marks=pytest.mark.slow) for part in (0.35, 0.8, 0.97))]
)
@pytest.mark.parametrize("after", [False, True])
def test_killed_between_two_files(whole, renamings, tmp_path, part, after):
    """In the first epochs of the arms, amid them, and as the runs are marked finished."""
    with pytest.MonkeyPatch.context() as patch:
        dying(patch, round(part * renamings), after=after)
        with pytest.raises(Killed):
            learn(tmp_path)
    must_be_alike(learn(tmp_path), whole)


@pytest.mark.slow
def test_killed_at_every_fifth_file(whole, renamings, tmp_path):
    for count in range(2, renamings + 1, 5):
        folder = tmp_path / str(count)
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, count, after=bool(count % 2))
            with pytest.raises(Killed):
                learn(folder)
        must_be_alike(learn(folder), whole)


def test_killed_again_and_again_at_every_file_it_comes_to_an_end(whole, tmp_path):
    """Each time a few files further on than the time before."""
    kills = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, 20, after=bool(kills % 2))
            try:
                learn(tmp_path)
                break
            except Killed:
                kills += 1
        assert kills < 30, "it goes on"
    assert kills > 2
    must_be_alike(tmp_path, whole)


def test_between_the_best_weights_and_the_state_that_counts_them(whole, tmp_path, monkeypatch):
    """The best of an epoch that does not count yet has taken the place of the one before."""
    real = cohort.save_state
    for epoch in (1, 2, 3):
        with monkeypatch.context() as patch:

            def die(path, now, learner, epoch=epoch):
                if now == epoch and path.stem == "base-seed0":  # the first of the two
                    raise Killed
                real(path, now, learner)

            patch.setattr(cohort, "save_state", die)
            with pytest.raises(Killed):
                learn(tmp_path)
        for run in RUNS[1:]:
            assert len(list((tmp_path / run / "best").glob("*.safetensors"))) == 1
            assert [line["epoch"] for line in lines(tmp_path, run)] == list(range(epoch + 1))
    must_be_alike(learn(tmp_path), whole)


def test_the_state_holds_all_that_a_step_changes_and_is_gone_at_the_end(whole, tmp_path):
    def stop(event):
        if event.what == "seed0, epoch 3 of 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, progress=stop)
    kept = load_file(tmp_path / "state" / "pair-seed0.safetensors")
    for place in (0, 1):
        for kind in ("weights", "average"):
            assert f"pair-seed0/{kind}/{place}/conv1.weight" in kept
        assert f"pair-seed0/path/{place}" in kept
    for key in ("exp_avg", "exp_avg_sq", "step"):
        assert any(name.startswith(f"pair-seed0/{key}/") for name in kept)
    banks = [name for name in kept if name.endswith(".memory")]
    assert len(banks) >= 2, "each network has its own"
    moved = kept["pair-seed0/weights/0/fc.weight"], kept["pair-seed0/average/0/fc.weight"]
    assert not torch.equal(*moved)
    study = load_study(tmp_path)
    assert [run.entry.status for run in study.runs] == ["finished", "running", "running"]
    must_be_alike(learn(tmp_path), whole)


def test_a_finished_study_is_not_touched(whole):
    before = {file: file.stat().st_mtime_ns for file in whole.rglob("*") if file.is_file()}
    learn(whole)
    after = {file: file.stat().st_mtime_ns for file in whole.rglob("*") if file.is_file()}
    changed = {file.name for file in before if before[file] != after[file]}
    assert before.keys() == after.keys()
    assert changed == set()
