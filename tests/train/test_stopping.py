"""What is kept where training must stop: the last good epoch, and the message names it."""

import errno
from pathlib import Path

import pytest
from toystudy import arm, lines, same, trained, weights

from kdprobe.errors import InputError, OutputError
from kdprobe.study import load_study

BASE = arm("cross_entropy", role="baseline")
PUSHED = [{"epochs": 3, "loss": "cross_entropy + vid"}, {"epochs": 3, "loss": "vid", "lr": 1e30}]
LONG = ["optimizer.epochs=6", "optimizer.schedule=constant"]
SHORT = ["teacher.epochs=1", "teacher.checkpoints=[0, 1]"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_epoch_before_a_divergence_is_kept_though_it_was_not_to_be(tmp_path, precision):
    arms = {"pair": arm(stages=PUSHED, together=2), "base": BASE}
    told = r"run 'pair-seed0', epoch 4, step 2: found a loss of \S+ \(vid\), wanted a finite one; "
    changes = [*LONG, *SHORT, f"precision={precision}"]
    with pytest.raises(InputError, match=told + "its weights after epoch 3 are kept; lower opti"):
        trained(tmp_path / "sparse", arms, *changes, checkpoints=[0, 6])
    with pytest.raises(InputError, match="its weights after epoch 3 are kept"):
        trained(tmp_path / "dense", arms, *changes)
    for run in ("pair-seed0", "pair-seed0.1"):
        ours, theirs = (weights(tmp_path / name, run, 3) for name in ("sparse", "dense"))
        assert same({key: value.to(theirs[key].dtype) for key, value in ours.items()}, theirs)
        assert len(lines(tmp_path / "sparse", run)) == 4
    adapters = sorted((tmp_path / "sparse" / "pair-seed0" / "adapters").iterdir())
    assert [file.name for file in adapters] == ["epoch-0000.safetensors", "epoch-0003.safetensors"]
    assert [run.epochs for run in load_study(tmp_path / "sparse").runs[1:]] == [(0, 3), (0,)]


def test_of_a_run_that_cannot_even_begin_nothing_is_said_to_be_kept(tmp_path):
    blinding = ["data.mean=[1e38, 1e38, 1e38]", "data.std=[1e-4, 1e-4, 1e-4]"]
    with pytest.raises(InputError, match=r"after epoch 0: .* one; nothing of it is kept; lower"):
        trained(tmp_path, {"one": BASE}, *blinding, teacher=None)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_full_disk_says_after_which_epoch_it_goes_on(tmp_path, monkeypatch):
    real = Path.write_bytes

    def full(self, content):
        if self.parent.name == "state" and len(lines(tmp_path)) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, content)

    arms, few = {"one": BASE}, {"checkpoints": [0, 6], "teacher": None}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        told = r"\(No space left .* continues after epoch 2 of seed0"
        with pytest.raises(OutputError, match=told):
            trained(tmp_path, arms, *LONG, **few)
    first = []
    trained(tmp_path, arms, *LONG, progress=first.append, **few)
    assert first[0].what == "seed0, epoch 3 of 6"
