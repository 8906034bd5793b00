"""What a user meets: every bad input has its exit code and says what to do."""

import json
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import (
    FAST,
    NETWORK,
    PHOTODIGITS,
    RUNS,
    fresh,
    run,
    spoil,
    toml,
    write_manifest,
    write_study,
)
from safetensors.torch import save_file

from kdprobe.api import analyze
from kdprobe.cli import cli
from kdprobe.commands.ending import ended as code_of
from kdprobe.commands.progress import progress
from kdprobe.results import AgainstControl, Outcome, Results, Verdict, read_results
from kdprobe.study import load_study
from kdprobe.train.loop import train as train_study

SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from kdprobe.cli import main
main()
"""
OPTIONS = ["--images=4", "--device=cpu"] + [
    f"--set={metric}.{name}={toml(value)}"
    for metric, changes in FAST.items()
    for name, value in changes.items()
]
FEW = ("--metrics", "accuracy,fidelity,concepts,stability")
SMALL = [
    "--set=data.arguments={train = 32, test = 16}",
    "--set=optimizer.batch_size=16",
    *(f"--set=arms.{arm}.model.arguments={{width = 2}}" for arm in ("baseline", "kd", "feature")),
]
OWN = """
from kdprobe.models.contract import make_body
def net(num_classes):
    return make_body("resnet8", num_classes=num_classes, width=2)
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def kdprobe(capsys) -> Call:
    """Run a command in this process."""

    def call(*words: object) -> Ended:
        code = code_of(partial(cli, [str(word) for word in words]))
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def looked(kdprobe, tmp_path, monkeypatch) -> Call:
    """Run `kdprobe analyze` without drawing, into tmp_path/out."""
    monkeypatch.setattr("kdprobe.api.write_report", lambda results, folder: ())
    return partial(kdprobe, "analyze", "--out", tmp_path / "out", *OPTIONS)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Read only."""
    return write_study(tmp_path_factory.mktemp("hand") / "study", data=PHOTODIGITS)


@pytest.fixture(scope="module")
def analysed(study, tmp_path_factory) -> Path:
    """Results without pages. Read only."""
    out = tmp_path_factory.mktemp("analysed") / "out"
    analyze(study, out=out, images=4, device="cpu", settings=FAST, report=False)
    return out


@pytest.fixture
def mine(study, tmp_path) -> Path:
    """A copy to be broken."""
    return shutil.copytree(study, tmp_path / "mine")


def spawn(*words: object, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, *(str(word) for word in words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **{**pipes, **how})


def finished(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=90)
    return Ended(process.returncode, out or "", err or "")


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


LAST = Path("s", "epoch-0001.safetensors")


def missing(study: Path) -> None:
    runs = [*RUNS[:2], run("s", seed=0, checkpoints=["epoch-0000.safetensors", LAST.name])]
    write_study(study, runs, data=PHOTODIGITS)
    (study / LAST).unlink()


def empty(study: Path) -> None:
    (study / LAST).write_bytes(b"")


def truncated(study: Path) -> None:
    (study / LAST).write_bytes((study / LAST).read_bytes()[:1000])


def other_network(study: Path) -> None:
    save_file(fresh(0, {**NETWORK, "name": "plain8"}), study / LAST)


def other_classes(study: Path) -> None:
    save_file(fresh(0, {**NETWORK, "num_classes": 7}), study / LAST)


def no_manifest(study: Path) -> None:
    (study / "study.toml").unlink()


def is_bad_toml(study: Path) -> None:
    (study / "study.toml").write_text("name = ")


@pytest.mark.parametrize(
    ("spoiling", "told"),
    [
        (missing, r"run 's': found no file .*s/epoch-0001\.safetensors; restore it or correct"),
        (empty, r"s/epoch-0001\.safetensors is empty \(0 bytes\); copy it again or delete it"),
        (truncated, r"s/epoch-0001\.safetensors is truncated .*; copy it again or delete it"),
        (other_network, r"it lacks \d+ tensors, the first is '.*Name the network that was"),
        (other_classes, r"'fc\.weight' has shape \(7, 8\), wanted \(10, 8\); correct num_classes"),
        (no_manifest, r"found neither study\.toml nor study\.json in .*; write a study\.toml"),
        (is_bad_toml, r"study\.toml cannot be parsed: .*; mend its syntax"),
    ],
)
def test_a_broken_study_is_refused(looked, mine, tmp_path, spoiling, told):
    spoiling(mine)
    ended = looked(mine)
    assert (ended.code, ended.out) == (3, "")
    assert re.match(f"error: .*{told}", ended.err)
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out" / "results.json").exists()


class Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_a_pickle_with_code_is_refused_and_not_run(looked, mine, tmp_path):
    marker = tmp_path / "the code ran"
    (mine / LAST).unlink()
    torch.save({"model": fresh(0), "hook": Trap(marker)}, (mine / LAST).with_suffix(".pt"))
    ended = looked(mine)
    assert ended.code == 3
    assert "refused. Wanted a file of tensors alone" in ended.err
    assert "save model.state_dict() by safetensors.torch.save_file" in ended.err
    assert not marker.exists()
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.exists(), "the trap works"


def test_weights_that_are_no_numbers_are_named_and_the_rest_is_analysed(kdprobe, mine, tmp_path):
    name = spoil(mine / LAST)
    ended = kdprobe("analyze", mine, "--out", tmp_path / "out", *OPTIONS, *FEW)
    assert ended.code == 4
    assert f"note: s, epoch 1: weights that are not numbers: s/{LAST.name}: tensor" in ended.err
    assert repr(name) in ended.err
    results = read_results(tmp_path / "out")
    assert [entry.epochs for entry in results.study.runs] == [(0, 1), (0, 1), (0,)]
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert "weights that are not numbers" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--metrics", "ckaa"], r"no metric is called 'ckaa'; did you mean 'cka'\?"),
        (["--layers", "stage33"], r"no layer 'stage33'; did you mean 'stage3'\?"),
        (["--set", "cka.batsh=2"], r"metric 'cka' has no setting 'batsh'; did you mean 'batch'\?"),
        (["--set", "ckaa.batch=2"], r"no metric is called 'ckaa'; did you mean 'cka'\?"),
        (["--set", "nothing.x=2"], r"no metric is called 'nothing'\. Known: discarding, accuracy"),
        (["--set", "cka.batch=many"], r"cka\.batch is 'many'; wanted a whole number"),
        (["--set", "batch"], r"found --set 'batch'; wanted METRIC\.SETTING=VALUE"),
        (["--device", "gpu"], r"found device 'gpu'; wanted 'auto', 'cpu', 'cuda' or 'cuda:N'"),
        (["--device", "cuda:99"], r"torch sees \d+ GPUs here; use 'auto' or 'cpu'"),
        (["--images", "0"], r"found --images 0; wanted at least 1"),
        (["--seed", "-1"], r"found --seed -1; wanted 0 to"),
        (["--images", "many"], r"Invalid value for '--images'"),
        (["--imagse", "4"], r"No such option.*--imagse"),
    ],
)
def test_what_analyze_does_not_know(looked, study, words, told):
    ended = looked(study, *words)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(told, ended.err, re.IGNORECASE)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "tinny"], r"no recipe is called 'tinny'; did you mean 'tiny'\?"),
        (["train", "xyzzy"], r"no recipe is called 'xyzzy'\. Known: "),
        (["train", "tiny", "--set", "optimizer.lrr=1"], r"optimizer\.lrr: .* did you mean 'lr'\?"),
        (["train", "tiny", "--device", "gpu"], "found device 'gpu'"),
        (["verify", ".", "--require", "H11"], r"no claim is called 'H11'; did you mean 'H1'\?"),
        (["verify", ".", "--require", "xyz"], r"no claim is called 'xyz'\. Known: H1, H2, H3"),
        (["verify", ".", "--require", "H1+control"], r"; did you mean 'H1\+controls'\?"),
        (["list", "metric"], r"'metric' is not one of 'metrics', 'losses'"),
        (["analyse"], r"No such command 'analyse'"),
        (["analyze"], r"Missing argument 'STUDY'"),
    ],
)
def test_what_the_other_verbs_do_not_know(kdprobe, words, told):
    ended = kdprobe(*words)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(told, ended.err)
    assert files(Path()) == []


def test_all_faults_of_a_recipe_at_once(kdprobe):
    ended = kdprobe("train", "tiny", "--set", "optimizer.lrr=1", "--set", "data.nam=x")
    assert ended.code == 2
    assert "2 faults" in ended.err
    assert "data.nam" in ended.err
    assert "optimizer.lrr" in ended.err


def test_code_of_a_manifest_needs_to_be_allowed_by_name(kdprobe, looked, tmp_path, monkeypatch):
    Path("own_nets.py").write_text(OWN + "open('the code ran', 'w').close()\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    network = {"factory": "own_nets:net", "num_classes": 10}
    folder = write_study(tmp_path / "own", [run("s", network=network)])
    for refused in (looked(folder), kdprobe("inspect", folder), looked(folder, "--dry-run")):
        assert refused.code == 3
        assert "names code to run: 'own_nets:net'; refused" in refused.err
        assert "--allow-code own_nets" in refused.err
    assert looked(folder, "--allow-code", "other").code == 3
    assert not Path("the code ran").exists()
    assert looked(folder, "--allow-code", "own_nets", "--metrics", "accuracy").code == 0
    assert Path("the code ran").exists()
    assert kdprobe("inspect", folder, "--allow-code", "own_nets").code == 0


@pytest.mark.parametrize("verb", ["analyze", "train"])
def test_a_place_that_cannot_be_written(kdprobe, study, tmp_path, verb):
    (tmp_path / "file").write_text("in the way")
    what = [study, *OPTIONS] if verb == "analyze" else ["tiny"]
    ended = kdprobe(verb, *what, "--out", tmp_path / "file" / "out")
    assert (ended.code, ended.out) == (3, "")
    assert re.match(r"error: cannot write .*file/out/.*; free some space, or choose an", ended.err)


@pytest.mark.parametrize(
    "limit", [5000, *(pytest.param(size, marks=pytest.mark.slow) for size in (0, 45_000))]
)
def test_a_disk_that_is_full(study, tmp_path, limit):
    resource = pytest.importorskip("resource", reason="limits of file sizes are a matter of Unix")
    out = tmp_path / "out"

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = ["analyze", study, "--out", out, "-q", *OPTIONS, *FEW]
    ended = finished(spawn(*words, preexec_fn=full))
    assert (ended.code, ended.out) == (3, "")
    told = [line for line in ended.err.splitlines() if "warn" not in line.lower()]
    assert len(told) == 1
    assert re.match(r"error: cannot write .*\(File too large\); free some space", told[0])
    assert not [name for name in files(out) if ".tmp" in name]
    assert not (out / "results.json").exists()


def test_stdout_that_is_full(monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        ended = finished(spawn("list", "metrics", stdout=full))
    assert ended.code == 3
    assert (
        ended.err == "error: cannot write the output (No space left on device); free some space\n"
    )


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="pipes close so on Unix only")
@pytest.mark.parametrize("words", [["list", "metrics"], ["list", "metrics", "--json"], ["--help"]])
def test_a_reader_that_has_gone_is_no_failed_gate(words):
    reader, writer = os.pipe()
    os.close(reader)
    ended = finished(spawn(*words, stdout=writer))
    os.close(writer)
    assert (ended.code, ended.err) == (-signal.SIGPIPE, "")


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not found() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_analysis_that_is_interrupted_goes_on(looked, study, tmp_path):
    few = ("--metrics", "accuracy,concepts,landscape")
    slow = (*few, "--set=landscape.plane_points=61")  # it is among the last looks
    out = tmp_path / "out"
    process = spawn("analyze", study, "--out", out, "-q", *OPTIONS, *slow)
    wait_for(lambda: len([*out.rglob("[0-9a-f]*.safetensors")]) >= 5, process)
    process.send_signal(signal.SIGINT)
    ended = finished(process)
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.strip() == "interrupted: what was finished is kept; the same command goes on"
    assert "stopped by KeyboardInterrupt" in (out / "run.log").read_text()
    assert not (out / "results.json").exists()
    assert not [name for name in files(out) if ".tmp" in name]
    assert looked(study, "-q", *few).code == 0
    kept = re.findall(r"looks planned, (\d+) of them in the store", (out / "run.log").read_text())
    assert int(kept[-1]) >= 5


@pytest.mark.slow
def test_training_that_is_interrupted_goes_on_to_the_same_weights(kdprobe, tmp_path):
    out = tmp_path / "tiny"
    words = ["train", "tiny", "--out", out, "-q", *SMALL]
    process = spawn(*words)
    wait_for((out / "kd-seed0" / "epoch-0001.safetensors").is_file, process)
    process.send_signal(signal.SIGINT)
    ended = finished(process)
    assert (ended.code, ended.out) == (130, "")
    assert "the same command goes on" in ended.err
    assert "running" in {run.entry.status for run in load_study(out).runs}
    ended = kdprobe(*words)
    assert (ended.code, ended.out, ended.err) == (0, f"{out}\n", "")
    weights = {file: (out / file).read_bytes() for file in files(out) if file.endswith("tensors")}
    whole = train_study("tiny", out=tmp_path / "whole", overrides=[w[6:] for w in SMALL])
    assert weights == {file: (whole / file).read_bytes() for file in weights}
    assert len(weights) == 28, "three epochs of each of seven networks, and the best one"
    again = kdprobe(*(word for word in words if word != "-q"))
    assert (again.code, again.out) == (0, f"{out}\n")
    assert again.err == "already finished: nothing to train; --out FOLDER trains it anew\n"


def test_verify_is_a_gate(kdprobe, analysed, monkeypatch):
    results = read_results(analysed)
    assert kdprobe("verify", analysed).code == 0
    failed = kdprobe("verify", analysed / "results.json", "--require", "H1, H3")
    assert failed.code == 1
    assert re.search(r"^required H1 is undecided \(student stage3\)$", failed.err, re.MULTILINE)
    yes = [v.model_copy(update={"outcome": "supported"}) for v in results.verdicts]
    monkeypatch.setattr("kdprobe.commands.verify.judge", lambda found: yes)
    assert kdprobe("verify", analysed, "--require", "H1,H2,H3").code == 0


LOST = "Not supported against control 'ls': what was gained may be regularisation, not knowledge."


def judged(results: Results, outcome: Outcome, note: str) -> list[Verdict]:
    """All verdicts supported against the baseline, with one control of this outcome."""
    control = AgainstControl(arm="ls", outcome=outcome, reason="It is so.", seeds=3)
    changes = {"outcome": "supported", "controls": (control,), "control_note": note}
    return [verdict.model_copy(update=changes) for verdict in results.verdicts]


def test_a_requirement_may_include_the_controls(kdprobe, analysed, monkeypatch):
    results = read_results(analysed)
    wanted, strict = ("--require", "H1"), ("--require", "H1+controls")
    lost, kept = judged(results, "undecided", LOST), judged(results, "supported", "Kept.")
    monkeypatch.setattr("kdprobe.commands.verify.judge", lambda found: lost)
    assert kdprobe("verify", analysed, *wanted).code == 0, "it is about the baseline"
    failed = kdprobe("verify", analysed, *strict)
    assert failed.code == 1
    assert f"required H1+controls is supported against the baseline (student stage3). {LOST}" in (
        failed.err.splitlines()
    )
    assert "required H2" not in failed.err
    monkeypatch.setattr("kdprobe.commands.verify.judge", lambda found: kept)
    assert kdprobe("verify", analysed, *strict).code == 0


def test_without_a_control_none_can_be_outlasted(kdprobe, analysed, monkeypatch):
    results = read_results(analysed)
    yes = [v.model_copy(update={"outcome": "supported"}) for v in results.verdicts]
    monkeypatch.setattr("kdprobe.commands.verify.judge", lambda found: yes)
    failed = kdprobe("verify", analysed, "--require", "H3,H3+controls")
    assert failed.code == 1
    assert {line.rpartition("). ")[2] for line in failed.err.splitlines()} == {
        "It was judged against no control."
    }
    monkeypatch.undo()
    failed = kdprobe("verify", analysed, "--require", "H3+controls")
    assert "required H3+controls is undecided (student logits)" in failed.err.splitlines()


def test_verify_tells_what_the_controls_leave(kdprobe, analysed, monkeypatch):
    results = read_results(analysed)
    lost, kept = judged(results, "undecided", LOST), judged(results, "supported", "Kept.")
    monkeypatch.setattr("kdprobe.commands.verify.judge", lambda found: [*lost[:1], *kept[1:]])
    told = kdprobe("verify", analysed).out
    assert told.count("(not against controls)") == told.count(LOST) == 1
    assert told.count("(against controls too)") == told.count("Kept.") == len(kept) - 1
    first = json.loads(kdprobe("verify", analysed, "--json").out)["verdicts"][0]
    assert first["control_note"] == LOST
    assert [control["outcome"] for control in first["controls"]] == ["undecided"]
    monkeypatch.undo()
    assert "control" not in kdprobe("verify", analysed).out, "this study has none"


def test_json_is_all_there_is_on_stdout(kdprobe, looked, study, analysed, tmp_path):
    found = json.loads(looked(study, "--json", *FEW).out)
    assert found.keys() == {"files", "verdicts", "problems"}
    assert found["files"]["results.json"] == str(tmp_path / "out" / "results.json")
    plan = json.loads(looked(study, "--json", "--dry-run", *FEW).out)
    assert all(look["stored"] for look in plan["looks"])
    verdicts = json.loads(kdprobe("verify", analysed, "--json", "--require", "H2").out)
    assert (verdicts["passed"], verdicts["required"]) == (False, ["H2"])
    assert {verdict["claim"] for verdict in verdicts["verdicts"]} == {"H1", "H2", "H3"}
    described = json.loads(kdprobe("inspect", study, "--json").out)
    assert [run["epochs"] for run in described["runs"]] == [[0, 1]] * 3
    assert all(check["ok"] for check in json.loads(kdprobe("doctor", "--json").out))


def test_quiet_is_silent(looked, study):
    ended = looked(study, "-q", *FEW)
    assert (ended.code, ended.err) == (0, "")
    assert "Hypotheses" in ended.out


def test_progress_is_lines_on_stderr_when_piped(looked, study, monkeypatch):
    monkeypatch.setattr("kdprobe.commands.progress.HEARTBEAT", 0.0)
    ended = looked(study, "--metrics", "accuracy")
    lines = [re.fullmatch(r"\[ +\d+ s\] (\d)/(\d) .+", line) for line in ended.err.splitlines()]
    assert [line and line.groups() for line in lines][:4] == [(str(n), "3") for n in range(4)]
    assert "outputs t epoch 1" in ended.err
    assert "outputs" not in ended.out


def test_a_heartbeat_comes_now_and_then(looked, study):
    ended = looked(study, *FEW)
    total = sum(line.startswith("[") for line in ended.err.splitlines())
    assert 1 <= total < 5, "the last look, and the report"


class Terminal:
    """Collects what is written, and says that it is a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_names_are_no_markup(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress(quiet=False) as told:
        told("outputs [/red][bold]\\", 3, 7)
    assert "3/7" in terminal.text
    assert "outputs [/red][bold]\\" in terminal.text
    assert "\x1b[" in terminal.text


@pytest.mark.parametrize(("name", "coloured"), [("NO_COLOR", False), ("FORCE_COLOR", True)])
def test_no_color_leaves_no_escape_codes(kdprobe, analysed, monkeypatch, name, coloured):
    for other in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(name, "1")
    ended = kdprobe("verify", analysed)
    assert ("\x1b[" in ended.out) is coloured
    assert "undecided" in ended.out


def test_a_dry_run_prints_the_plan_and_writes_nothing(kdprobe, looked, study, tmp_path):
    before = files(tmp_path), files(study)
    ended = kdprobe("analyze", study, "--dry-run", *OPTIONS)
    planned = looked(study, "--dry-run")
    assert (ended.code, ended.err, ended.out) == (0, "", planned.out)
    assert (files(tmp_path), files(study)) == before
    assert re.search(r"^ +all +(\d+) +0 *$", ended.out, re.MULTILINE)
    assert looked(study, *FEW).code == 0
    again = looked(study, "--dry-run", *FEW)
    row = re.search(r"^ +all +(\d+) +(\d+) *$", again.out, re.MULTILINE)
    assert row is not None
    assert row[1] == row[2]


def test_a_dry_run_tells_what_does_not_apply(looked, tmp_path):
    ended = looked(write_study(tmp_path / "s", RUNS[1:]), "--dry-run")
    assert "cka: not applicable: needs a teacher; this study has none" in ended.out
    assert "concepts: not applicable: needs object masks; data set 'digits' has none" in ended.out


@pytest.mark.slow
def test_the_report_is_drawn_again_without_torch(analysed, tmp_path):
    code = "import sys\nfrom kdprobe.cli import cli\ntry:\n    cli()\nfinally:\n    " + (
        "assert not {'torch', 'captum', 'sklearn'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "report", str(analysed), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    pages = [tmp_path / "out" / name for name in ("report.html", "report.pdf")]
    assert done.stdout.split() == [str(page) for page in pages]
    assert all(page.stat().st_size > 10_000 for page in pages)


def test_only_the_pages_that_are_wanted(kdprobe, analysed, tmp_path):
    ended = kdprobe("report", analysed, "--out", tmp_path / "out", "--no-html", "--no-pdf")
    assert (ended.code, ended.out) == (0, "")
    kinds = {Path(name).suffix for name in files(tmp_path / "out")}
    assert kinds - {".parquet"} == {"", ".csv"}  # Parquet where its extra is installed


@pytest.mark.parametrize("verb", ["verify", "report"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, r"found no results at .*; run 'kdprobe analyze STUDY' first"),
        ("{", "is not a results file of schema version 1: at the file: Invalid JSON"),
        ('{"schema_version": 2}', "at schema_version: .*; run 'kdprobe analyze' again with this"),
    ],
)
def test_results_that_are_none(kdprobe, tmp_path, verb, text, told):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    ended = kdprobe(verb, tmp_path)
    assert (ended.code, ended.out) == (3, "")
    assert re.search(told, ended.err)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("metrics", "simultaneity"),
        ("losses", "cross_entropy"),
        ("datasets", "photodigits"),
        ("models", "wrn"),
        ("corruptions", "label_noise"),
        ("augmentations", "mixup"),
        ("recipes", "tiny"),
        ("claims", "H1, H2, H3"),
    ],
)
def test_every_room_is_listed(kdprobe, what, name):
    assert name in kdprobe("list", what).out
    entries = json.loads(kdprobe("list", what, "--json").out)
    assert name in [entry["name"] for entry in entries]
    assert all(entry.keys() == {"name", "what", "source"} for entry in entries)


def test_inspect_shows_runs_and_layers(kdprobe, study):
    ended = kdprobe("inspect", study)
    assert ended.code == 0
    assert re.search(r"t +teacher +teacher +resnet8 \(width=2\) +\d+ +- +0 1 ", ended.out)
    assert "layers: stem, stage1, stage2, stage3, pooled, logits" in ended.out
    assert "modules: conv1, " in ended.out
    assert kdprobe("inspect", study / "none").code == 3


def test_inspect_tells_what_a_twin_without_skips_lost(kdprobe, tmp_path):
    twin = {**NETWORK, "transforms": ["strip_skips"]}
    write_manifest(
        tmp_path, [run("b", "baseline"), run("s", network=twin)], name="hand", data=PHOTODIGITS
    )
    for name in ("b", "s"):
        (tmp_path / name).mkdir()
        save_file(fresh(0), tmp_path / name / "epoch-0000.safetensors")
    found = json.loads(kdprobe("inspect", tmp_path, "--json").out)["runs"]
    plain, stripped = (entry["parameters"] for entry in found)
    assert [entry["parameter_changes"] for entry in found] == [
        {},
        {"strip_skips": stripped - plain},
    ]
    shown = kdprobe("inspect", tmp_path).out
    assert re.search(rf"strip_skips +{stripped} +{stripped - plain} by strip_skips +0 ", shown)


def test_the_doctor_finds_what_is_missing(kdprobe, tmp_path, monkeypatch):
    assert kdprobe("doctor", "--out", tmp_path / "new").code == 0
    assert files(tmp_path / "new") == []
    (tmp_path / "file").write_text("")
    ended = kdprobe("doctor", "--out", tmp_path / "file")
    assert ended.code == 1
    assert "MISSING" in ended.out
    monkeypatch.setattr("kdprobe.commands.doctor.PACKAGES", ("no-such-package",))
    ended = kdprobe("doctor", "--out", tmp_path / "new")
    assert ended.code == 1
    assert "pip install no-such-package" in ended.out


class Scripts(HTMLParser):
    """Collects script elements and event handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.scripts, self.handlers = False, [""], [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "script"
        self.scripts += [""] if self.inside else []
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data


MARKUP, CODE = "<script>alert(1)</script>", "#panic()"


@pytest.mark.slow
def test_names_stay_inert_text(kdprobe, tmp_path):
    runs = [
        run("t", "teacher"),
        run("b", "baseline", seed=0),
        run(MARKUP, folder="s", seed=0, arm=CODE),
        run(CODE, folder="s2", seed=1, arm="#eval('1')"),
    ]
    folder = write_study(tmp_path / "odd", runs, name=MARKUP, data=PHOTODIGITS)
    ended = kdprobe("analyze", folder, *OPTIONS, *FEW)
    assert ended.code == 0, ended.err
    out = Path("reports", "_script_alert_1___script_")
    assert files(Path("reports"))[0] == out.name
    html = (out / "report.html").read_text()
    parser, plain = Scripts(), Scripts()
    parser.feed(html)
    assert not [script for script in parser.scripts if script.strip() == "alert(1)"]
    assert parser.handlers == [""]
    plain.feed(MARKUP)
    assert plain.scripts[-1] == "alert(1)", "the parser would see it"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert MARKUP not in html
    pypdf = pytest.importorskip("pypdf")
    text = "".join(page.extract_text() for page in pypdf.PdfReader(out / "report.pdf").pages)
    assert "#panic()" in text
    assert "alert(1)" in text


def test_faults_of_kdprobe_itself_are_told_as_such(kdprobe, analysed, monkeypatch):
    def fail(results: object) -> None:
        raise ZeroDivisionError("why")

    monkeypatch.setattr("kdprobe.commands.verify.judge", fail)
    ended = kdprobe("verify", analysed)
    assert ended.code == 70
    assert "ZeroDivisionError: why" in ended.err
    assert "internal error: this is a fault of kdprobe; please report" in ended.err


def test_help_and_version_are_answered(kdprobe):
    told = kdprobe("--help")
    assert told.code == 0
    for verb in ("analyze", "doctor", "inspect", "list", "report", "train", "verify"):
        assert re.search(rf"^  {verb} ", told.out, re.MULTILINE)
    assert re.match(r"kdprobe, version \d+\.\d+", kdprobe("--version").out)


def test_what_a_long_work_warns_of_is_said_unless_quiet(capsys):
    for quiet in (False, True):
        with progress(quiet):
            logging.getLogger("kdprobe").warning("out of memory: going on with batches of %d", 4)
        told = capsys.readouterr()
        wanted = "" if quiet else "warning: out of memory: going on with batches of 4\n"
        assert (told.out, told.err) == ("", wanted)


@pytest.mark.parametrize("option", ["--metrics=", "--layers=,", "--metrics= , "])
def test_an_option_that_lost_its_names_is_not_all_of_them(option, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kdprobe", "analyze", "nowhere", option])
    assert code_of(cli) == 2
    assert "without a name; wanted some, separated by commas" in capsys.readouterr().err
