"""The same study gives the same results, however often the analysis is killed on its way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from handmade import FAST, NETWORK, PHOTODIGITS, RUNS, run, spoil, toml, write_study

from kdprobe.analysis import plan
from kdprobe.answering import Sightings
from kdprobe.api import Step, analyze, output_folder
from kdprobe.errors import InputError, UnknownName, UsageError
from kdprobe.metrics.contract import METRICS
from kdprobe.probes.contract import PROBES, look_at, sight
from kdprobe.probes.lens import Lens
from kdprobe.provenance import provenance_of
from kdprobe.request import Request
from kdprobe.results import Results, read_results
from kdprobe.store import Store
from kdprobe.study import load_study

SCRIPT = "from kdprobe.cli import main; main()"
OPTIONS = ["--images=4", "--device=cpu", "--quiet"] + [
    f"--set={metric}.{name}={toml(value)}"
    for metric, changes in FAST.items()
    for name, value in changes.items()
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    runs = [*RUNS, run("b1", "baseline", seed=1), run("s1", seed=1)]
    return write_study(tmp_path_factory.mktemp("hand") / "study", runs, data=PHOTODIGITS)


@pytest.fixture(scope="module")
def undisturbed(study, tmp_path_factory) -> Path:
    """A whole analysis, with its report."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    analyze(study, out=out, images=4, device="cpu", settings=FAST)
    torch.set_num_threads(before)
    return out


def request(**changes) -> Request:
    return Request(**{"images": 4, "device": "cpu", "settings": FAST, **changes})


def keys(study: Path, **changes) -> dict[str, str]:
    """What is seen of whom -> key, of every task."""
    planned = plan(load_study(study), request(**changes), study / "store")
    return {repr(sight.described("")): task.key for sight, task in planned.tasks.items()}


def entries(out: Path) -> dict[str, tuple[int, int]]:
    """Every whole entry of the store, with inode and time."""
    files = (out / "store").rglob("*.safetensors")
    found = {file.name: file.stat() for file in files if not file.name.startswith(".")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def written(out: Path) -> dict[str, bytes]:
    """All that an analysis wrote, but for its log and its store."""
    files = [file for file in sorted(out.rglob("*")) if file.is_file() and file.name != "run.log"]
    return {
        str(file.relative_to(out)): file.read_bytes() for file in files if "store" not in file.parts
    }


def reasons(results: Results) -> dict[str, str]:
    return {metric.key: metric.reason for metric in results.metrics if metric.reason}


def test_equal_sights_are_seen_once(study):
    planned = plan(load_study(study), request(), study / "store")
    asked = [sight for question in planned.questions for sight in question.sights]
    assert len(asked) > 1.5 * len(set(asked)), "three metrics look at the same concepts"
    assert set(planned.tasks) == set(asked)
    keys_of_all = {task.key for task in planned.tasks.values()}
    assert {task.key for task in planned.looks} == keys_of_all
    assert len(planned.looks) == len(keys_of_all) < len(planned.tasks), "w_0 is shared by a seed"


def test_a_key_is_of_the_content(study, tmp_path):
    before = keys(study)
    moved = shutil.copytree(study, tmp_path / "moved")
    assert keys(moved) == before
    assert keys(study, settings={**FAST, "discarding": {**FAST["discarding"], "b": 1.0}}) == before
    spoilt = moved / "s" / "epoch-0000.safetensors"
    shutil.copy(moved / "t" / "epoch-0000.safetensors", spoilt)
    changed = set(keys(moved).values()) - set(before.values())
    assert 0 < len(changed) < len(before) / 4, "only the looks at one checkpoint"


@pytest.mark.parametrize(
    ("changes", "probes"),
    [
        ({"images": 5}, {"jacobian", "pictures"}),
        (
            {"layers": ("stage1", "logits")},
            {"jacobian", "weights", "attributions", "map_checks", "concept_vectors"},
        ),
        ({"settings": {**FAST, "discarding": {**FAST["discarding"], "probes": 5}}}, {"jacobian"}),
        (
            {"settings": {**FAST, "discarding": {**FAST["discarding"], "grid": 4}}},
            {"jacobian", "pictures"},
        ),
        (
            {"settings": {**FAST, "discarding": {**FAST["discarding"], "object": "centre"}}},
            {"pictures"},
        ),
        (
            {"settings": {**FAST, "landscape": {**FAST["landscape"], "radius": 2}}},
            {"slice_1d", "slice_2d"},
        ),
        ({"settings": {**FAST, "accuracy": {"images": 17}}}, {"outputs"}),
    ],
)
def test_another_choice_is_another_key(study, changes, probes):
    before, after = keys(study), keys(study, **changes)
    fresh = [what for what, key in after.items() if key not in before.values()]
    assert {re.search(r"'probe': '(\w+)'", what)[1] for what in fresh} == probes


def test_another_seed_is_another_key_for_all(study):
    assert not set(keys(study).values()) & set(keys(study, seed=1).values())


def kill_halfway(study: Path, out: Path, total: int) -> int:
    """Start an analysis and kill it at about half of its looks; how many it had kept."""
    command = [sys.executable, "-c", SCRIPT, "analyze", str(study), "--out", str(out), *OPTIONS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(entries(out)) < total // 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return len(entries(out))


@pytest.mark.slow
def test_killed_and_started_again_nothing_is_seen_twice(study, undisturbed, tmp_path):
    out, total = tmp_path / "elsewhere" / "out", len(entries(undisturbed))
    kept = kill_halfway(study, out, total)
    assert total // 2 <= kept < total
    assert not (out / "results.json").exists()
    before = entries(out)
    (out / "run.log").unlink()
    analyze(study, out=out, images=4, device="cpu", settings=FAST, report=False)
    after = entries(out)
    assert {name: after[name] for name in before} == before
    assert set(after) == set(entries(undisturbed))
    log = (out / "run.log").read_text()
    assert f"{total} looks planned, {kept} of them in the store" in log
    looks = [line for line in log.splitlines() if f"/{total} " in line]
    assert len(looks) == total - kept
    assert written(out).items() <= written(undisturbed).items()  # which has its report too


@pytest.mark.slow
def test_the_same_analysis_again_gives_the_same_bytes(study, undisturbed, tmp_path):
    moved = shutil.copytree(study, tmp_path / "moved")
    again = tmp_path / "again"
    analyze(moved, out=again, images=4, device="cpu", settings=FAST)
    assert written(again) == written(undisturbed)
    assert {"results.json", "report.html", "report.pdf"} < written(again).keys()
    assert any(name.startswith("tables") for name in written(again))


def test_nothing_is_seen_when_all_is_known(study, undisturbed):
    before, told = entries(undisturbed), []
    analyze(
        study,
        out=undisturbed,
        images=4,
        device="cpu",
        settings=FAST,
        report=False,
        progress=told.append,
    )
    assert entries(undisturbed) == before
    assert [(step.what.split()[0], step.done) for step in told] == [
        ("reckoning", done) for done in range(len(METRICS.values()))
    ]


@pytest.mark.parametrize("left", [10, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 100))])
def test_a_damaged_entry_is_seen_again(study, undisturbed, tmp_path, left):
    out = shutil.copytree(undisturbed, tmp_path / "out")
    damaged = sorted((out / "store").rglob("*.safetensors"))[::5]
    whole = {file: file.read_bytes() for file in damaged}
    for file in damaged:
        file.write_bytes(whole[file][:left])
    analyze(study, out=out, images=4, device="cpu", settings=FAST, report=False)
    assert {file: file.read_bytes() for file in damaged} == whole
    assert (out / "results.json").read_bytes() == (undisturbed / "results.json").read_bytes()
    assert "was damaged; looking again" in (out / "run.log").read_text()


def test_a_store_that_keeps_nothing_is_told(study, tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "get", lambda self, key: None)
    with pytest.raises(InputError, match=r"the store lost 'outputs t epoch 1' .* run the same"):
        analyze(study, out=tmp_path, metrics=["accuracy"], settings=FAST, report=False)


def test_what_was_read_is_forgotten_by_its_size(study, undisturbed, monkeypatch):
    """However little is kept, the numbers are the same; the last sight is always kept."""
    planned = plan(load_study(study), request(), undisturbed / "store")
    store = Store(undisturbed / "store")
    kept = Sightings(planned.tasks, store)
    sizes = [sum(array.nbytes for array in kept[sight].values()) for sight in planned.tasks]
    assert len(kept._read) == len(planned.tasks)
    monkeypatch.setattr("kdprobe.answering.KEPT_IN_MEMORY", 2 * max(sizes))
    few = Sightings(planned.tasks, store)
    for one in planned.tasks:
        assert few[one].keys() == kept[one].keys()
        assert next(reversed(few._read)) == one
        assert few._size() <= 2 * max(sizes)
    assert 1 < len(few._read) < len(planned.tasks)
    monkeypatch.setattr("kdprobe.answering.KEPT_IN_MEMORY", 0)
    last = list(planned.tasks)[-1]
    assert few[next(iter(planned.tasks))] is not None
    assert few[last] is few[last]
    assert len(few._read) == 1


def test_progress_counts_every_look(study, tmp_path):
    told: list[Step] = []
    out = tmp_path / "out"
    analyze(study, out=out, metrics=["accuracy"], settings=FAST, report=False, progress=told.append)
    assert [(step.done, step.total) for step in told[:-1]] == [(done, 5) for done in range(6)]
    assert told[1].what == "outputs t epoch 1"
    assert told[-1] == Step(f"reckoning {METRICS['accuracy'].title}", 0, 1)


NO_TEACHER = "needs a teacher; this study has none"
NO_MASKS = (
    "needs object masks; data set 'digits' has none; "
    "--set discarding.object=centre takes the centre of every image for the object"
)
ONE = "needs at least two checkpoints at the same epochs in every run, found 1"
ALONE = "needs a student or a baseline; this study has only a teacher"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"runs": RUNS[1:], "data": PHOTODIGITS}, {"fidelity": NO_TEACHER, "cka": NO_TEACHER}),
        pytest.param(
            {"data": PHOTODIGITS, "epochs": (3,)},
            {"simultaneity": ONE, "stability": ONE},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {},
            dict.fromkeys(("concepts", "simultaneity", "stability"), NO_MASKS),
            marks=pytest.mark.slow,
        ),
        (
            {"runs": RUNS[:1], "data": PHOTODIGITS},
            dict.fromkeys(("fidelity", "simultaneity", "stability", "cka"), ALONE),
        ),
    ],
    ids=["no teacher", "one checkpoint", "no masks", "a teacher alone"],
)
def test_what_does_not_apply_says_why(tmp_path, changes, wanted):
    folder = write_study(tmp_path / "study", **changes)
    results = analyze(folder, out=tmp_path / "out", images=4, settings=FAST, report=False)
    assert wanted.items() <= reasons(results).items()
    assert all(reason.startswith("needs ") for reason in reasons(results).values())
    assert "accuracy" not in reasons(results)
    assert {m.status for m in results.metrics if m.reason} == {"not applicable"}
    assert all(verdict.reason for verdict in results.verdicts)


def test_a_spoilt_checkpoint_is_left_out_and_the_rest_measured(tmp_path):
    folder = write_study(tmp_path / "study", epochs=(0, 1, 2))
    spoil(folder / "s" / "epoch-0002.safetensors")
    results = analyze(folder, out=tmp_path / "out", images=4, settings=FAST, report=False)
    assert [run.epochs[-1] for run in results.study.runs] == [2, 2, 1]
    assert [problem.subject for problem in results.problems if problem.left_out] == ["s, epoch 2"]


def test_results_are_of_their_schema_and_of_no_machine(study, undisturbed):
    text = (undisturbed / "results.json").read_text()
    results = read_results(undisturbed)
    assert results.to_json() == text
    assert not any(word in text for word in (":NaN", ":Infinity", ":-Infinity", ",NaN", "[NaN"))
    for place in (study.parent, undisturbed.parent, Path.home(), Path.cwd()):
        assert f"{place}/" not in text
    schema = Results.model_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["required"]) <= json.loads(text).keys() <= set(schema["properties"])


def test_results_tell_how_they_came_about(study, undisturbed):
    told = read_results(undisturbed).provenance
    assert (told["device"], told["threads"], told["seed"]) == ("cpu", "1", "0")
    after = "after its activation"
    assert told["layers"] == f"stage3 ({after}), pooled ({after}), logits (as it puts out)"
    assert "--layers stage3,pooled,logits --images 4 --device cpu --seed 0" in told["command"]
    assert "--set cka.images=8" in told["command"]
    assert f"torch {torch.__version__}" in told["versions"]
    digests = {run.id: run.digest for run in read_results(undisturbed).study.runs}
    assert {key: told[f"checkpoint {key}"] for key in digests} == digests
    assert load_study(study).runs[0].last.sealed().digest == digests["t"]


@pytest.mark.parametrize(
    ("chosen", "estimator", "layer"),
    [
        ({}, "jacobian: units cells, grid 8, lam 6, noise 0.00226, relu False, probes 4", "out)"),
        ({"relu": True}, "relu True, probes 4, noises 4, radius 0.5774, exact 64; pixels", "ReLU)"),
        (
            {"estimator": "paper", "restarts": 4},
            "paper: units cells, grid 8, lam 6, restarts 4; n",
            "ReLU)",
        ),
    ],
)
def test_the_estimator_and_its_settings_are_told(study, chosen, estimator, layer):
    quick = {"grid": 8} if "estimator" in chosen else FAST["discarding"]
    settings = {**FAST, "discarding": {**quick, **chosen}}
    told = provenance_of(plan(load_study(study), request(settings=settings), study / "s"), "")
    assert estimator in told["concept estimator"]
    assert told["concept thresholds"] == (
        "b = 0.2; sweep 0.2, 0.5, 1, 1.5, 2; level data; object mask"
    )
    assert told["layers"].endswith(layer)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metrics": ("ckaa",)}, UnknownName, r"no metric is called 'ckaa'; did you mean 'cka'\?"),
        ({"settings": {"ckaa": {}}}, UsageError, r"no metric is called 'ckaa'; did you mean 'cka'"),
        (
            {"settings": {"cka": {"batsh": 1}}},
            UsageError,
            "no setting 'batsh'; did you mean 'batch'",
        ),
        (
            {"settings": {"cka": {"batch": "8"}}},
            UsageError,
            "'8'; wanted a whole number of at leas",
        ),
        ({"settings": {"cka": {"batch": 0}}}, UsageError, "cka.batch is 0; wanted a whole number"),
        ({"settings": {"cka": {"batch": True}}}, UsageError, "is True; wanted a whole number"),
        (
            {"settings": {"landscape": {"radius": float("nan")}}},
            UsageError,
            "wanted a finite numbe",
        ),
        (
            {"settings": {"discarding": {"bb": 1}}},
            UsageError,
            r"discarding\.bb=1: wanted one of est",
        ),
        ({"settings": {"discarding": {"sweep": 3}}}, UsageError, r"wanted a list, such as \[0\.2"),
        ({"settings": {"discarding": {"sweep": ("a",)}}}, UsageError, "wanted a list"),
        ({"settings": {"discarding": {"relu": 1}}}, UsageError, "is 1; wanted true or false"),
        ({"settings": {"discarding": {"units": "cell"}}}, UsageError, "wanted cells, parts, toke"),
        ({"layers": ("stage33",)}, UnknownName, r"no layer 'stage33'; did you mean 'stage3'\?"),
        ({"device": "gpu"}, UsageError, "found device 'gpu'; wanted 'auto', 'cpu'"),
        ({"executor": "rey"}, UnknownName, "no executor is called 'rey'"),
        ({"images": 0}, UsageError, "found --images 0; wanted at least 1"),
        ({"seed": -1}, UsageError, "found --seed -1; wanted 0 to"),
        ({"seed": 1 << 70}, UsageError, "wanted 0 to 4294967295"),
    ],
)
def test_what_cannot_be_asked(study, changes, error, message):
    with pytest.raises(error, match=message):
        plan(load_study(study), request(**changes), study / "store")


def test_networks_of_other_classes_than_the_data(tmp_path):
    network = {"name": "resnet8", "num_classes": 7, "arguments": {"width": 2}}
    folder = write_study(tmp_path, [run("s", network=network)])
    with pytest.raises(InputError, match="run 's' has 7 classes, the data set has 10; analyse it"):
        plan(load_study(folder), request(), tmp_path / "store")
    strange = {**NETWORK, "classes": [*"abcdefghij"]}
    folder = write_study(tmp_path, [run("t", "teacher", network=strange), *RUNS[1:]])
    planned = plan(load_study(folder), request(), tmp_path / "store")
    assert [r.id for r in planned.study.runs] == ["b", "s"]
    (problem,) = (p for p in planned.problems if p.left_out)
    assert problem.subject == "t"
    assert "names a class 'a' that the data set does not have; it is left out" in problem.what


def test_a_network_with_its_own_order_of_classes_answers_as_the_data_does(tmp_path):
    mixed = [*"9876543210"]
    runs = [*RUNS, run("m", seed=1, network={**NETWORK, "classes": mixed})]
    folder = write_study(tmp_path / "study", runs, epochs=(1,))
    (folder / "m" / "epoch-0001.safetensors").write_bytes(
        (folder / "s" / "epoch-0001.safetensors").read_bytes()
    )
    lens = Lens(torch.device("cpu"), load_study(folder).data, 8, 0)
    finals = [run.last for run in load_study(folder).runs]
    s, m = (sight("outputs", last, images=8) for last in finals[2:])
    plain, turned = (look_at(one, lens)["logits"] for one in (s, m))
    assert torch.equal(turned, plain.flip(1))
    without_images = Lens(torch.device("cpu"), load_study(folder).data, 0, 0)
    assert without_images.network(finals[3]).order is not None
    with pytest.raises(InputError, match="one name of its own"):
        load_study(write_study(tmp_path / "x", [run("s", network={**NETWORK, "classes": ["0"]})]))


def refuse(monkeypatch, *runs: str) -> None:
    """Looks at the outputs of `runs` are refused."""
    real = PROBES["outputs"].look

    def look(subjects, lens, **settings):
        if subjects[0].run in runs:
            raise InputError("found fog; wanted light; wait for the morning")
        return real(subjects, lens, **settings)

    monkeypatch.setitem(PROBES._entries, "outputs", replace(PROBES["outputs"], look=look))


def test_what_cannot_be_seen_is_left_out_and_the_rest_goes_on(study, tmp_path, monkeypatch):
    refuse(monkeypatch, "s")
    asked = ("accuracy", "landscape")
    results = analyze(study, out=tmp_path, metrics=asked, device="cpu", settings=FAST, report=False)
    assert results.metric("landscape").status == "measured"
    left = [problem for problem in results.problems if problem.left_out]
    assert all("found fog; wanted light; wait for the morning" in p.what for p in left)
    assert len(left) == 1
    again = analyze(study, out=tmp_path, metrics=asked, device="cpu", settings=FAST, report=False)
    assert again == results


def test_what_was_refused_is_tried_again(study, tmp_path, monkeypatch):
    refuse(monkeypatch, "s")
    asked = ("accuracy", "landscape")
    analyze(study, out=tmp_path, metrics=asked, device="cpu", settings=FAST, report=False)
    monkeypatch.undo()
    results = analyze(study, out=tmp_path, metrics=asked, device="cpu", settings=FAST, report=False)
    assert results.metric("accuracy").status == "measured"
    assert not results.problems
    assert not list(tmp_path.rglob("*.refused"))


def test_where_nothing_at_all_can_be_seen_the_analysis_fails(study, tmp_path, monkeypatch):
    refuse(monkeypatch, "t", "b", "s", "b1", "s1")
    with pytest.raises(InputError, match="found fog"):
        analyze(study, out=tmp_path, metrics=("accuracy",), device="cpu", settings=FAST)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("demo", "demo"), ("../../etc", "_.._etc"), ("<b>", "_b_"), ("..", "study"), ("a b", "a b")],
)
def test_reports_stay_in_their_folder(tmp_path, name, folder):
    study = load_study(write_study(tmp_path, RUNS[:1], name=name, epochs=(0,)))
    assert output_folder(study, None) == Path("reports") / folder
    assert output_folder(study, "mine") == Path("mine")


def test_controls_are_measured_and_judged_as_the_baseline_is(tmp_path):
    runs = [*RUNS, run("c", "control", arm="smooth", seed=0), run("c9", "control", seed=9)]
    folder = write_study(tmp_path / "study", runs, data=PHOTODIGITS)
    out = tmp_path / "out"
    results = analyze(folder, out=out, images=4, device="cpu", settings=FAST, report=False)
    for key in ("concepts", "simultaneity", "stability", "cka", "landscape"):
        measured = results.metric(key).values["runs"]
        assert {"b", "s", "c", "c9"} <= measured.keys(), key
    assert {verdict.claim for verdict in results.verdicts} == {"H1", "H2", "H3"}
    for verdict in results.verdicts:
        assert [(c.arm, c.seeds) for c in verdict.controls] == [("smooth", 1), ("control", 0)]
        assert [c.outcome for c in verdict.controls] == ["undecided", "not applicable"]
        assert verdict.control_note == "", "one seed supports nothing"
