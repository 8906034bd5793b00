"""Controls in which the truth is planted: what outlasts them, what does not, and what is said."""

from typing import Any

import pytest
from planted import METRIC, report, results, summary, the, values

from kdprobe.claims.controls import control_note, control_pairs
from kdprobe.claims.quantification import quantification
from kdprobe.results import AgainstControl, Results

LIKE_BASELINE, LIKE_STUDENT = False, True
LOST = (
    "Not supported against control 'smooth': what was gained may be regularisation, not knowledge."
)
KEPT = "Supported against control 'smooth' too: regularisation of its kind does not explain it."


def controlled(
    name: str, kinds: dict[str, bool], better: int = 1, seeds: int = 6, **changes: Any
) -> Results:
    """The planted study with arms of controls, each like baseline or student."""
    found = results(name, better, seeds, **changes)
    reported = found.metrics[0]
    layers = list(reported.values["runs"]["b0"])
    runs = [summary(f"{arm}{i}", "control", arm, i) for arm in kinds for i in range(seeds)]
    measured = {
        run.id: {layer: values(name, kinds[run.arm], better, 10 * run.seed) for layer in layers}
        for run in runs
    }
    whole = {**reported.values, "runs": {**reported.values["runs"], **measured}}
    study = found.study.model_copy(update={"runs": (*found.study.runs, *runs)})
    return found.model_copy(update={"study": study, "metrics": (report(METRIC[name], whole),)})


@pytest.mark.parametrize("name", METRIC)
def test_what_a_control_has_too_may_be_regularisation(name):
    verdict = the(name, controlled(name, {"smooth": LIKE_STUDENT}))
    assert verdict.outcome == "supported", "the verdict is against the baseline, as ever"
    (control,) = verdict.controls
    assert (control.arm, control.outcome, control.seeds) == ("smooth", "undecided", 6)
    assert all(estimate.effect == 0 for estimate in control.estimates)
    assert verdict.control_note == LOST
    assert not verdict.outlasts_controls


@pytest.mark.parametrize("name", METRIC)
def test_what_outlasts_all_controls_is_told_too(name):
    kinds = {"smooth": LIKE_BASELINE, "random": LIKE_BASELINE}
    verdict = the(name, controlled(name, kinds))
    assert [control.outcome for control in verdict.controls] == ["supported"] * 2
    for control in verdict.controls:
        assert control.estimates == verdict.estimates, "a control like the baseline is judged alike"
        assert (control.seeds, control.images) == (verdict.seeds, verdict.images)
        assert control.reason == verdict.reason
    told = "Supported against controls 'smooth' and 'random' too: regularisation of their kind"
    assert verdict.control_note == f"{told} does not explain it."
    assert verdict.outlasts_controls


def test_one_control_that_is_as_good_is_enough_for_doubt():
    kinds = {"scaled": LIKE_BASELINE, "smooth": LIKE_STUDENT}
    verdict = the("H3", controlled("H3", kinds))
    assert [control.outcome for control in verdict.controls] == ["supported", "undecided"]
    assert verdict.control_note == LOST
    assert not verdict.outlasts_controls


def test_a_control_that_is_better_than_the_student_contradicts_its_comparison():
    found = controlled("H3", {"smooth": LIKE_STUDENT})
    runs = {
        run: {"logits": {"ratio": [[one + 0.3 for one in row] for row in at["logits"]["ratio"]]}}
        if run.startswith("smooth")
        else at
        for run, at in found.metrics[0].values["runs"].items()
    }
    entry = report("stability", {**found.metrics[0].values, "runs": runs})
    verdict = the("H3", found.model_copy(update={"metrics": (entry,)}))
    assert verdict.controls[0].outcome == "contradicted"
    assert (verdict.outcome, verdict.control_note) == ("supported", LOST)


@pytest.mark.parametrize("better", [0, -1])
def test_of_what_is_not_supported_nothing_more_is_said(better):
    verdict = the("H3", controlled("H3", {"smooth": LIKE_BASELINE}, better=better))
    assert verdict.outcome != "supported"
    assert len(verdict.controls) == 1
    assert verdict.control_note == ""
    assert not verdict.outlasts_controls


def test_without_controls_a_verdict_is_as_it_was():
    verdict = the("H1", results("H1", seeds=6))
    assert (verdict.controls, verdict.control_note) == ((), "")
    assert not verdict.outlasts_controls, "nothing was there to outlast"
    assert "controls" in verdict.model_dump()


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_decide_nothing_against_controls_either(seeds):
    verdict = the("H1", controlled("H1", {"smooth": LIKE_BASELINE}, seeds=seeds))
    assert verdict.controls[0].outcome == "undecided"
    assert "decide" in verdict.controls[0].reason
    assert not verdict.outlasts_controls


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_control_of_few_common_seeds_leaves_it_open(kept):
    found = controlled("H3", {"smooth": LIKE_BASELINE})
    runs = tuple(
        run if run.role != "control" or run.seed < kept else run.model_copy(update={"seed": 90})
        for run in found.study.runs
        if run.role != "control" or run.seed <= kept
    )
    study = found.study.model_copy(update={"runs": runs})
    verdict = the("H3", found.model_copy(update={"study": study}))
    (control,) = verdict.controls
    assert control.seeds == kept
    assert control.outcome == ("undecided" if kept else "not applicable")
    assert (verdict.outcome, verdict.control_note) == ("supported", LOST)


def test_each_comparison_is_adjusted_over_its_own_layers_and_parts():
    kinds = {"smooth": LIKE_BASELINE, "random": LIKE_BASELINE, "scaled": LIKE_STUDENT}
    found = controlled("H3", kinds, layers=("stage3", "logits"))
    alone = the("H3", results("H3", seeds=6)).estimates[0].p_value
    for verdict in (v for v in quantification(found) if v.claim == "H3"):
        first = [verdict.estimates[0], *(c.estimates[0] for c in verdict.controls[:2])]
        assert [entry.p_value for entry in first] == [pytest.approx(2 * alone)] * 3


def test_pairs_with_controls_share_a_seed():
    found = controlled("H1", {"smooth": True, "random": True}, seeds=2)
    assert control_pairs(found) == {
        "kd": {
            "smooth": [("s0", "smooth0"), ("s1", "smooth1")],
            "random": [("s0", "random0"), ("s1", "random1")],
        }
    }


def test_the_sentences():
    def control(arm: str, outcome: Any) -> AgainstControl:
        return AgainstControl(arm=arm, outcome=outcome, reason="")

    yes, no, none = (
        control(*one) for one in (("a", "supported"), ("b", "undecided"), ("c", "not applicable"))
    )
    assert control_note("supported", [control("smooth", "supported")]) == KEPT
    assert control_note("supported", [yes, no, none]).startswith(
        "Not supported against controls 'b' and 'c': what was gained may be"
    )
    assert control_note("undecided", [no]) == control_note("supported", []) == ""


def test_the_same_results_give_the_same_controls_and_come_back_from_json():
    found = controlled("H2", {"smooth": LIKE_BASELINE})
    verdict = the("H2", found)
    assert verdict == the("H2", found)
    whole = found.model_copy(update={"verdicts": (verdict,)}).settled()
    assert whole.verdicts[0].control_note == KEPT
    assert whole.verdicts[0].controls[0].estimates[0].quantity == "D_mean"
