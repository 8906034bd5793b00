"""Verdicts on results made by hand, in which the truth is known."""

import numpy as np
import pytest
from planted import IMAGES, METRIC, THRESHOLDS, report, results, summary, the

from kdprobe.claims.contract import CLAIMS, claim, judge
from kdprobe.claims.quantification import HYPOTHESES, quantification, seed_pairs
from kdprobe.results import Results, StudySummary, Verdict


@pytest.mark.parametrize("name", METRIC)
def test_what_is_plainly_so_is_supported(name):
    verdict = the(name, results(name, seeds=6))
    assert verdict.outcome == "supported"
    assert (verdict.seeds, verdict.images) == (6, IMAGES)
    assert (verdict.arm, verdict.layer) == ("kd", "logits")
    assert verdict.robust is True
    assert [point.b for point in verdict.sweep] == THRESHOLDS
    for estimate in verdict.estimates:
        assert estimate.p_value < 0.05
        assert (estimate.effect > 0) == (estimate.wanted == "higher")
        assert estimate.low <= estimate.effect <= estimate.high
        assert not estimate.low <= 0 <= estimate.high
    assert verdict.reason.endswith("as claimed.")


@pytest.mark.parametrize("name", METRIC)
def test_what_is_plainly_the_other_way_is_contradicted(name):
    verdict = the(name, results(name, better=-1))
    assert verdict.outcome == "contradicted"
    assert "significantly the other way" in verdict.reason


@pytest.mark.parametrize("name", METRIC)
def test_what_differs_by_nothing_is_undecided(name):
    found = results(name, better=0)
    same = {run: values for run, values in found.metrics[0].values["runs"].items() if run[0] == "b"}
    same |= {run.replace("b", "s"): values for run, values in same.items()}
    entry = report(METRIC[name], {**found.metrics[0].values, "runs": same})
    verdict = the(name, found.model_copy(update={"metrics": (entry,)}))
    assert verdict.outcome == "undecided"
    assert all(estimate.effect == 0 for estimate in verdict.estimates)
    assert "not significant" in verdict.reason


@pytest.mark.parametrize("name", METRIC)
def test_one_seed_decides_nothing(name):
    verdict = the(name, results(name, seeds=1))
    assert verdict.outcome == "undecided"
    assert verdict.reason.startswith("One seed decides nothing")
    assert all(estimate.low < estimate.high for estimate in verdict.estimates)
    assert {point.outcome for point in verdict.sweep} == {"undecided"}


def test_two_seeds_are_too_few():
    verdict = the("H1", results("H1", seeds=2))
    assert verdict.outcome == "undecided"
    assert verdict.reason == "2 seeds decide nothing: at least 3 are needed."


def test_the_estimates_are_the_differences_of_the_means():
    found = results("H1")
    runs = found.metrics[0].values["runs"]
    by_part = {estimate.quantity: estimate for estimate in the("H1", found).estimates}
    for quantity, kind in (("N_fg", "foreground"), ("N_bg", "background")):
        means = [[np.mean(runs[f"{who}{i}"]["logits"][kind][0]) for i in range(3)] for who in "sb"]
        assert by_part[quantity].effect == pytest.approx(np.mean(means[0]) - np.mean(means[1]))
    assert set(by_part) == {"N_fg", "N_bg", "λ"}


def test_one_part_the_other_way_contradicts_and_one_open_part_leaves_it_open():
    found = results("H1")
    runs = found.metrics[0].values["runs"]
    for change, outcome in ((30.0, "contradicted"), (0.0, "undecided")):
        mixed = {run: {"logits": {**at["logits"]}} for run, at in runs.items()}
        for i in range(3):
            background = np.array(runs[f"b{i}"]["logits"]["background"]) + change
            mixed[f"s{i}"]["logits"]["background"] = background.tolist()
        entry = report("concepts", {**found.metrics[0].values, "runs": mixed})
        verdict = the("H1", found.model_copy(update={"metrics": (entry,)}))
        assert verdict.outcome == outcome
        parts = {estimate.quantity: estimate.outcome for estimate in verdict.estimates}
        assert parts["N_fg"] == "supported"


def test_a_verdict_that_turns_along_the_sweep_is_not_robust():
    found = results("H3")
    runs = {run: {"logits": {}} for run in found.metrics[0].values["runs"]}
    for run, at in found.metrics[0].values["runs"].items():
        first = at["logits"]["ratio"][0]
        runs[run]["logits"]["ratio"] = [first, [1.0 - value for value in first]]
    entry = report("stability", {**found.metrics[0].values, "runs": runs})
    turned = found.model_copy(update={"metrics": (entry,)})
    verdict = the("H3", turned)
    assert [point.outcome for point in verdict.sweep] == ["supported", "contradicted"]
    assert verdict.outcome == "supported"
    assert verdict.robust is False
    last = report("stability", {**entry.values, "headline": 1})
    verdict = the("H3", turned.model_copy(update={"metrics": (last,)}))
    assert verdict.outcome == "contradicted", "the headline threshold decides"


def test_many_layers_make_a_verdict_harder():
    alone = the("H3", results("H3")).estimates[0].p_value
    found = quantification(results("H3", layers=("stage3", "pooled", "logits")))
    among = [v for v in found if v.claim == "H3"]
    assert [v.layer for v in among] == ["stage3", "pooled", "logits"]
    assert all(v.estimates[0].p_value == pytest.approx(3 * alone) for v in among)


def test_images_that_are_not_defined_are_left_out():
    found = results("H3")
    runs = found.metrics[0].values["runs"]
    holed = {
        run: {"logits": {"ratio": [[None, *row[1:]] for row in at["logits"]["ratio"]]}}
        for run, at in runs.items()
    }
    entry = report("stability", {**found.metrics[0].values, "runs": holed})
    assert the("H3", found.model_copy(update={"metrics": (entry,)})).outcome == "supported"
    nothing = {run: {"logits": {"ratio": [[None] * IMAGES] * 2}} for run in runs}
    entry = report("stability", {**found.metrics[0].values, "runs": nothing})
    verdict = the("H3", found.model_copy(update={"metrics": (entry,)}))
    assert verdict.outcome == "undecided"
    assert verdict.reason == "ρ is not defined."
    assert verdict.estimates[0].effect is verdict.estimates[0].p_value is None


def test_images_without_concept_or_peak_are_not_defined():
    by_name = {hypothesis.name: hypothesis for hypothesis in HYPOTHESES}
    share = by_name["H1"].parts[2].per_image
    found = share({"foreground": [[3, 0]], "background": [[1, 0]]}, 0)
    assert found[0] == 0.75
    assert np.isnan(found[1])
    distance = by_name["H2"].parts[0].per_image
    found = distance({"peak": [[2, -1, 0]], "path": [0.0, 1.5, 4.0]}, 0)
    assert found[[0, 2]].tolist() == [4.0, 0.0]
    assert np.isnan(found[1])


def test_without_students_nothing_applies():
    found = results("H1")
    alone = StudySummary(
        name="s", dataset="d", classes=("a",), runs=(summary("t", "teacher", "teacher", 0),)
    )
    verdicts = quantification(found.model_copy(update={"study": alone}))
    assert [v.claim for v in verdicts] == ["H1", "H2", "H3"]
    assert {v.outcome for v in verdicts} == {"not applicable"}
    assert all("needs a student" in v.reason for v in verdicts[1:])


def test_a_metric_that_is_missing_or_does_not_apply_gives_its_reason():
    found = results("H1")
    verdicts = {v.claim: v for v in quantification(found)}
    assert verdicts["H1"].outcome == "supported"
    for name in ("H2", "H3"):
        assert verdicts[name].outcome == "not applicable"
        assert verdicts[name].reason == f"metric '{METRIC[name]}' was not asked for"
    bare = report("concepts", {}, status="not applicable", reason="no object masks")
    verdict = the("H1", found.model_copy(update={"metrics": (bare,)}))
    assert (verdict.outcome, verdict.reason) == ("not applicable", "no object masks")


def test_a_baseline_of_the_same_seed_is_needed():
    found = results("H1")
    runs = [run for run in found.study.runs if run.role == "student"]
    runs += [summary("b9", "baseline", "baseline", 9)]
    study = found.study.model_copy(update={"runs": tuple(runs)})
    verdict = the("H1", found.model_copy(update={"study": study}))
    assert verdict.outcome == "not applicable"
    assert "needs a baseline of the same seed" in verdict.reason


def test_pairs_share_a_seed_whatever_the_order():
    found = results("H1", seeds=2)
    study = found.study.model_copy(update={"runs": tuple(reversed(found.study.runs))})
    pairs = seed_pairs(found.model_copy(update={"study": study}))
    assert sorted(pairs["kd"]) == [("s0", "b0"), ("s1", "b1")]


def test_the_same_results_give_the_same_verdicts():
    assert quantification(results("H2")) == quantification(results("H2"))


def test_a_claim_enters_the_catalogue_and_is_judged_with_the_others():
    found = results("H1")
    (mine,) = quantification(found)[:1]

    @claim("mine", title="Mine", source="this test", names=("M",))
    def mine_too(results: Results) -> list[Verdict]:
        return [mine.model_copy(update={"claim": "M"})]

    try:
        assert "M" in {verdict.claim for verdict in judge(found)}
        assert CLAIMS["quantification"].names == ("H1", "H2", "H3")
        assert judge(found)[-1].claim in {"M", "H3"}
    finally:
        del CLAIMS._entries["mine"]
