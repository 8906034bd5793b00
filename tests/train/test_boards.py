"""TensorBoard gets the numbers of metrics.jsonl, each once, at its epoch."""

import builtins
from functools import partial

import pytest
from toystudy import arm, files, lines, recipe, trained, untimed

from kdprobe.cli import cli
from kdprobe.commands.ending import ended
from kdprobe.errors import UsageError
from kdprobe.train import cohort
from kdprobe.train.boards import FOLDER, numbers
from kdprobe.train.loop import train

ARMS = {"one": arm("cross_entropy + dml", together=2), "two": arm("kd(T=4)")}
RUNS = ("teacher", "one-seed0", "one-seed0.1", "two-seed0")


def shown(folder, run):
    """{key: {epoch: value}} as TensorBoard reads it, no epoch twice."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder / run / FOLDER)).Reload()
    found = {}
    for key in read.Tags()["scalars"]:
        events = [(event.step, event.value) for event in read.Scalars(key)]
        assert len(dict(events)) == len(events), f"{key} is there twice"
        found[key] = dict(events)
    return found


def wanted(folder, run):
    found = {}
    for line in lines(folder, run):
        for key, value in numbers(line):
            found.setdefault(key, {})[line["epoch"]] = pytest.approx(value, rel=1e-6)
    return found


def test_every_number_is_shown_under_its_key():
    line = {"epoch": 3, "lr": [0.1], "a": None, "b": 2, "c": True, "d": {"kd(T=4)": {"raw": 0.5}}}
    assert list(numbers(line)) == [("b", 2.0), ("d/kd(T=4)/raw", 0.5)]


def test_event_files_hold_the_lines_of_every_network(tmp_path):
    pytest.importorskip("tensorboard")
    folder = train(recipe(ARMS), out=tmp_path / "shown", tensorboard=True)
    for run in RUNS:
        assert shown(folder, run) == wanted(folder, run)
    assert "terms/dml/raw" in shown(folder, "one-seed0.1")
    plain = trained(tmp_path / "plain", ARMS)
    assert files(folder) == files(plain)
    assert not list(plain.rglob(FOLDER))
    for run in RUNS:
        assert untimed(folder, run) == untimed(plain, run)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_killed_and_gone_on_with_each_epoch_is_shown_once(tmp_path, monkeypatch, count):
    """Killed before the state is kept, an epoch was shown but did not count: it comes again."""
    pytest.importorskip("tensorboard")
    real, left = cohort.save_state, [count]

    def die(*words):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(cohort, "save_state", die)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(ARMS), out=tmp_path, tensorboard=True)
    folder = train(recipe(ARMS), out=tmp_path, tensorboard=True)
    for run in RUNS:
        assert shown(folder, run) == wanted(folder, run)


@pytest.fixture
def without(monkeypatch):
    """As where the extra is not installed."""
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("without")
def test_without_the_extra_it_is_a_usage_error(tmp_path):
    told = r"found no TensorBoard, .* 'pip install kdprobe\[tensorboard\]', or leave the option out"
    with pytest.raises(UsageError, match=told):
        train(recipe(ARMS), out=tmp_path / "one", tensorboard=True)
    assert not (tmp_path / "one").exists()
    trained(tmp_path / "two", {"one": arm("cross_entropy")}, teacher=None)


@pytest.mark.usefixtures("without")
def test_the_command_says_so_and_ends_with_2(tmp_path, small, capsys):
    settings = [f"--set={text}" for text in small]
    words = ["train", "tiny", "-q", "--tensorboard", f"--out={tmp_path / 'study'}", *settings]
    assert ended(partial(cli, words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "found no TensorBoard" in err
