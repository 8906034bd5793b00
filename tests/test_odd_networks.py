"""Whatever network comes, every metric measures it or says why not, and leaves it alone."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import odd_networks
import pytest
import torch
from handmade import FAST
from safetensors.torch import save_file
from test_promises import Watchful, chances, state
from torch import nn

from kdprobe.analysis import plan
from kdprobe.api import analyze
from kdprobe.errors import InputError
from kdprobe.metrics.contract import METRICS
from kdprobe.probes.contract import look_at
from kdprobe.request import Request
from kdprobe.results import MetricReport, Results
from kdprobe.study import load_study

ALLOWED = ["odd_networks"]
ROLES = {"t": "teacher", "b": "baseline", "s": "student"}
QUICK = ("batch_norm", "shared", "transformer batch_norm rows")
SLOW = ("group_norm", "layer_norm", "tuples", "transformer", "rows", "linear", "weight_normed")
SLOW += ("silent", "rounding", "reader", "half")
ODD = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
SENTENCE = re.compile(r"\w.{15,}; \w.{8,}", re.DOTALL)  # what is the matter; what to do


def weights(factory: str, who: str) -> dict[str, torch.Tensor]:
    """Fresh weights; of tied ones copies, and norms that have seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, who)))
        body = getattr(odd_networks, factory)(odd_networks.CLASSES)
        norms = (m for m in body.modules() if isinstance(m, nn.BatchNorm2d))
        for norm in (m for m in norms if m.track_running_stats):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
    return {name: value.clone().contiguous() for name, value in body.state_dict().items()}


def study_of(factory: str, folder: Path) -> Path:
    """A teacher, a baseline and a student of `factory`; of "one two three" each of its own."""
    factories = dict(zip(ROLES, factory.split() * 3, strict=False))
    data = "sentences" if factory == "reader" else "pictures"
    lines = ['name = "odd"', f'data = {{ factory = "odd_networks:{data}" }}']
    gray = ", mean = [0.0], std = [1.0]" if data == "sentences" else ""
    for id, role in ROLES.items():
        own = factories[id]
        network = f'{{ factory = "odd_networks:{own}", num_classes = 3{gray} }}'
        seed = "" if role == "teacher" else "seed = 0"
        lines += ["[[runs]]", f'id = "{id}"', f'role = "{role}"', f"network = {network}", seed]
        (folder / id).mkdir(parents=True)
        for epoch in range(3):
            who = "start" if epoch == 0 and role != "teacher" else f"{id}{epoch}"
            save_file(weights(own, who), folder / id / f"epoch-{epoch}.safetensors")
    (folder / "study.toml").write_text("\n".join(lines))
    return folder


def settings(factory: str) -> dict[str, Any]:
    """Cells cannot be cut from sequences: their tokens are the units."""
    tokens = {"grid": 1} if factory == "reader" else {}
    return {**FAST, "discarding": {**FAST["discarding"], **tokens}}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def analysed(factory: str, folder: Path, **more: Any) -> Results:
    study = study_of(factory, folder / "study")
    choices = {"images": 3, "allow_code": ALLOWED, "report": False, "device": "cpu", **more}
    return analyze(study, out=folder / "out", settings=settings(factory), **choices)


def must_be_told(report: MetricReport) -> None:
    """Measured and shown, or a sentence with what was found and what to do."""
    if report.status == "measured":
        assert report.panels, f"{report.key} shows nothing"
        assert report.values, f"{report.key} has no values"
    else:
        assert SENTENCE.search(report.reason), f"{report.key} says only: {report.reason}"


def refuse_constant(name: str) -> None:
    raise AssertionError(f"results.json holds {name}")


@pytest.mark.parametrize("factory", ODD)
def test_every_metric_measures_an_odd_network_or_says_why_not(factory, tmp_path):
    results = analysed(factory, tmp_path)
    assert {report.key for report in results.metrics} == set(METRICS)
    for report in results.metrics:
        must_be_told(report)
    for problem in results.problems:
        assert len(problem.what) > 20
    measured = {report.key for report in results.metrics if report.status == "measured"}
    assert {"accuracy", "fidelity"} <= measured
    json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=refuse_constant)


LAYERS = {
    "shared": ("block", "is called more than once"),
    "tuples": ("halves", "returns tuple"),
    "rows": ("reader", "returns tuple"),
    "transformer": ("encoder.layers.1.norm1", ""),
}


@pytest.mark.parametrize(
    "factory",
    ["shared", *(pytest.param(n, marks=pytest.mark.slow) for n in LAYERS if n != "shared")],
)
def test_a_layer_that_cannot_be_looked_at_is_told_and_the_others_go_on(factory, tmp_path):
    layer, why = LAYERS[factory]
    results = analysed(factory, tmp_path, layers=[layer, "logits"])
    for report in results.metrics:
        must_be_told(report)
    assert any(why in report.reason for report in results.metrics)
    assert results.metric("accuracy").status == "measured"
    assert (results.metric("concepts").status == "measured") == (not why)


def test_an_odd_network_has_a_report(tmp_path):
    analysed("shared", tmp_path, report=True, metrics=["accuracy", "reuse", "readout", "cka"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Feature reuse" in page
    assert "nan" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL).lower().split()


def whole(network: nn.Module) -> Any:
    """All that a look could have left behind."""
    attributes = {name: sorted(vars(module)) for name, module in network.named_modules()}
    buffers = {name: value.numpy().tobytes() for name, value in network.named_buffers()}
    hooks = {
        name: [len(value) for key, value in sorted(vars(module).items()) if "hooks" in key]
        for name, module in network.named_modules()
    }
    return attributes, buffers, hooks, state(network)


class Suspicious(Watchful):
    """A lens that remembers every corner of what it lends."""

    def network(self, checkpoint: Any) -> Any:
        network = super().network(checkpoint)
        self.lent[-1] = (network, whole(network))
        return network


@pytest.mark.parametrize("factory", ODD)
def test_every_look_leaves_an_odd_network_as_it_was(factory, tmp_path):
    study = load_study(study_of(factory, tmp_path))
    request = Request(
        images=2, settings=settings(factory), allowed=frozenset(ALLOWED), device="cpu"
    )
    planned = plan(study, request, tmp_path / "store")
    assert planned.looks
    for task in planned.looks:
        lens = Suspicious(torch.device("cpu"), study.data, task.sight.images, 0, frozenset(ALLOWED))
        before, refusal = chances(), ""
        try:
            look_at(task.sight, lens)
        except InputError as refused:
            refusal = str(refused)
        assert not refusal or SENTENCE.search(refusal), f"{task.sight.title} says only: {refusal}"
        assert chances() == before, f"{task.sight.title} drew from the global random state"
        for network, was in lens.lent:
            assert whole(network) == was, f"{task.sight.title} changed the network"


def test_a_network_that_takes_no_single_image_is_told_of_in_its_own_words(tmp_path):
    results = analysed("company", tmp_path)
    for report in results.metrics:
        must_be_told(report)
    (outputs,) = (p for p in results.problems if "outputs" in p.what and "Accuracy" in p.subject)
    assert outputs.left_out
    assert re.search(r"failed on inputs of shape \(1, 3, 16, 16\).*Expected more", outputs.what)
