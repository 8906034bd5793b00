"""Killed at any moment and started again, training ends with the same bits."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from toystudy import Killed, dying

from kdprobe.errors import InputError, OutputError
from kdprobe.study import load_study
from kdprobe.train.loop import train
from kdprobe.train.losses.contract import LOSSES, Loss, Outputs
from kdprobe.train.recipe import load_recipe, settle
from kdprobe.train.writing import append_line

SHORT = ["optimizer.epochs=1", "checkpoints=[0, 1]", "optimizer.batch_size=40"]
SCRIPT = """
import sys
from kdprobe.train.loop import train
train("tiny", out=sys.argv[1], overrides=sys.argv[2:], progress=lambda e: print(e, flush=True))
"""


def weights(folder: Path) -> dict[str, bytes]:
    files = sorted(folder.rglob("*.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def metrics(folder: Path) -> dict[str, list[dict[str, object]]]:
    """Every line but for its time."""
    found = {}
    for file in sorted(folder.rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.parent.name] = [{**row, "seconds": 0, "images_per_second": 0} for row in rows]
    return found


@pytest.mark.slow
def test_dying_between_any_two_files_changes_nothing(tmp_path, small, monkeypatch):
    raw = load_recipe("tiny", [*small, *SHORT]).model_dump(mode="json")
    recipe = settle({**raw, "arms": {"kd": raw["arms"]["kd"]}}, title="teacher and one student")
    whole = train(recipe, out=tmp_path / "whole")
    for count in range(1, 100):
        folder = tmp_path / f"killed-{count}"
        with monkeypatch.context() as patch:
            dying(patch, count, after=bool(count % 2))
            try:
                train(recipe, out=folder)
                break
            except Killed:
                pass
        train(recipe, out=folder)
        assert weights(folder) == weights(whole), f"killed at file {count}"
        assert metrics(folder) == metrics(whole), f"killed at file {count}"
        assert not list(folder.rglob("*.tmp"))
        assert not (folder / "state").exists()
        assert all(run.entry.status == "finished" for run in load_study(folder).runs)
    assert count > 15


@pytest.mark.slow
def test_sigkill_at_random_steps_changes_nothing(tmp_path, trained, small):
    chance = random.Random(0)
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(folder), *small]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for steps in (chance.randint(1, 5), chance.randint(4, 7)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            for _ in range(steps):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    train("tiny", out=folder, overrides=small)
    assert weights(folder) == weights(trained)
    assert metrics(folder) == metrics(trained)


def test_a_running_study_can_be_read_and_tells_its_resumption(tmp_path, small, caplog):
    def stop(event):
        if event.what == "seed0, epoch 2 of 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("tiny", out=tmp_path, overrides=small, progress=stop)
    study = load_study(tmp_path)
    assert [run.entry.status for run in study.runs] == ["finished", *["running"] * 3]
    assert study.runs[1].epochs == (0, 1)
    with (tmp_path / "kd-seed0" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "torn')
    train("tiny", out=tmp_path, overrides=small)
    resumed = json.loads((tmp_path / "kd-seed0" / "run.json").read_text())["resumed"]
    assert [entry["after_epoch"] for entry in resumed] == [1]
    assert not caplog.records, "the same environment"
    assert [line["epoch"] for line in metrics(tmp_path)["kd-seed0"]] == [0, 1, 2]


def test_going_on_elsewhere_is_warned_of_and_the_first_record_stays(tmp_path, small, caplog):
    def stop(event):
        if event.what == "seed0, epoch 2 of 2":
            raise KeyboardInterrupt

    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        with pytest.raises(KeyboardInterrupt):
            train("tiny", out=tmp_path, overrides=small, progress=stop)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, "once for all runs of the cohort"
    assert re.match(r"run \S+-seed0 goes on in another .* \(threads 1 then, 2 now\): its", told[0])
    train("tiny", out=tmp_path, overrides=small)
    record = json.loads((tmp_path / "kd-seed0" / "run.json").read_text())
    assert record["threads"] == 1
    assert [entry["threads"] for entry in record["resumed"]] == [2, 1, 1]
    assert record["run"]["status"] == "finished"


def test_a_state_of_other_networks_is_refused(tmp_path, small):
    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("tiny", out=tmp_path, overrides=small, progress=stop)
    state = tmp_path / "state"
    (state / "teacher.safetensors").rename(state / "kd-seed0.safetensors")
    with pytest.raises(InputError, match="holds other tensors than this recipe trains"):
        train("tiny", out=tmp_path, overrides=small)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_full_disk_is_an_output_error_and_can_be_gone_on_from(
    tmp_path, trained, small, monkeypatch, count
):
    real, left = Path.write_bytes, [count]

    def write_bytes(self, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(OutputError, match=r"cannot write .* \(No space left on device\)"):
            train("tiny", out=tmp_path, overrides=small)
    train("tiny", out=tmp_path, overrides=small)
    assert weights(tmp_path) == weights(trained)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_line_of_numbers_that_finds_no_room_is_told_of(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"cannot write .*metrics\.jsonl \(No space left"):
        append_line(path, {"epoch": 0})


class Gain(nn.Module):
    """A loss with a weight of its own, which starts at random."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(()))

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        return F.mse_loss(student.logits * self.gain, teacher.logits.detach())


def test_a_loss_with_weights_of_its_own_is_trained_and_gone_on_with(tmp_path, small, monkeypatch):
    entry = Loss("gain", "Gain", "this test", True, False, Gain)
    monkeypatch.setitem(LOSSES._entries, "gain", entry)
    overrides = [*small, "arms.kd.loss=0.1*gain"]
    gains = []

    def stop(event):
        state = tmp_path / "killed" / "state" / "kd-seed0.safetensors"
        if event.what == "seed0, epoch 2 of 2":
            raise KeyboardInterrupt
        if state.is_file():
            gains.append(float(load_file(state)["kd-seed0/loss/losses.0.gain"]))

    whole = train("tiny", out=tmp_path / "whole", overrides=overrides)
    with pytest.raises(KeyboardInterrupt):
        train("tiny", out=tmp_path / "killed", overrides=overrides, progress=stop)
    after = load_file(tmp_path / "killed" / "state" / "kd-seed0.safetensors")
    assert float(after["kd-seed0/loss/losses.0.gain"]) != gains[0]
    train("tiny", out=tmp_path / "killed", overrides=overrides)
    assert weights(tmp_path / "killed") == weights(whole)
