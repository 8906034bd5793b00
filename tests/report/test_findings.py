"""What deserves attention: doubts, clear differences, in order, and never more than is known."""

import math
from typing import Any

import pytest
from plain import metric_report
from specimen import specimen
from specimen_controls import controlled

from kdprobe.panels import Effect, Forest
from kdprobe.report import doubts
from kdprobe.report.answers import classes, copied, exaggerated
from kdprobe.report.differences import Gap, differences, told_gaps
from kdprobe.report.document import chapters, evidence
from kdprobe.report.finding import Finding, listed
from kdprobe.report.findings import DOUBTS, SHOWN, caution, findings
from kdprobe.report.html import page
from kdprobe.report.sentences import SENTENCES
from kdprobe.results import MetricReport, Problem, Results


def metric(key: str, values: dict[str, Any], *panels: Forest, title: str = "") -> MetricReport:
    return metric_report(key, title=title or key, values=values, panels=panels)


def holding(*metrics: MetricReport, **changes: Any) -> Results:
    """The specimen's networks with other metrics, no verdict and no problem."""
    bare = {"metrics": metrics, "verdicts": (), "problems": ()}
    return specimen().model_copy(update=bare | changes)


def gap(effect: float, half: float, **more: float) -> dict[str, Any]:
    return {"effect": effect, "low": effect - half, "high": effect + half, "p_value": 0.5, **more}


def accurate(**shares: float) -> MetricReport:
    """Accuracy by run, `kd_seed0=0.8`, with an error of a hundredth."""
    rows = [
        {"run": name.replace("_", "-"), "accuracy": share, "error": 0.01}
        for name, share in shares.items()
    ]
    return metric("accuracy", {"runs": rows})


def told(found: Any) -> list[str]:
    return [f"{one.subject}: {one.what}" for one in found]


def test_a_ratio_is_told_as_one():
    """Issue's own numbers: exp(-1.62) = 0.20."""
    effects = {"kd, largest eigenvalue": {"effect": -1.62, "low": -2.04, "high": -1.2}}
    (found,) = differences(holding(metric("curvature", {"effects": effects})))
    assert found.what == (
        f"is flatter: its largest Hessian eigenvalue is {math.exp(-1.62):.2f} "
        f"[{math.exp(-2.04):.2f}, {math.exp(-1.2):.2f}] times the baseline's"
    )
    assert (found.subject, found.anchor, found.kind) == ("kd", "metric-curvature", "difference")
    assert found.weight == pytest.approx(1.62 / 0.42)


def test_an_interval_with_zero_is_not_told():
    for effect, half in ((0.1, 0.1001), (-0.1, 0.2), (0.0, 1.0)):
        values = {"effects": {"ece": {"kd": gap(effect, half)}}}
        assert told(differences(holding(metric("calibration", values)))) == []


def test_of_several_layers_and_arms_the_clearest_is_told_and_the_others_named():
    later = {
        "kd, stage2": gap(2.0, 0.5),
        "kd, logits": gap(3.0, 0.5),
        "kd, stage3": gap(0.1, 0.5),
        "feature, logits": gap(1.0, 0.5),
        "feature, stage2": gap(-1.0, 0.5),
    }
    found = told(differences(holding(metric("settling", {"later": later}))))
    assert found == [
        "kd: settles later than the baseline: +3.00 [+2.50, +3.50] epochs at logits "
        "(likewise at stage2); likewise feature, +1.00 [+0.50, +1.50] at logits",
        "feature: settles earlier than the baseline: −1.00 [−1.50, −0.50] epochs at stage2",
    ]


def test_adjusted_p_values_count_where_a_metric_has_them():
    rows = [
        {"arm": "kd", "layer": "logits", "effect": 0.1, "low": 0.02, "high": 0.18, "p": p}
        for p in (0.049, 0.051)
    ]
    clear, open_ = (
        told(differences(holding(metric("cka", {"nearer_teacher": [row]})))) for row in rows
    )
    assert clear == [
        "kd: its features are more like the teacher's than an independent network's: "
        "CKA +0.100 [+0.020, +0.180] at logits"
    ]
    assert open_ == []


def test_a_metric_that_no_sentence_knows_speaks_by_its_forest_plots():
    rows = (
        Effect(name="kd · stage2", value=2.0, low=1.0, high=3.0),
        Effect(name="feature · stage2", value=1.0, low=-1.0, high=3.0),
        Effect(name="feature", value=1.0, low=None, high=None),
    )
    panel = Forest(title="Novelty {gap}", x_label="{where}", effects=rows)
    (found,) = differences(holding(metric("novel", {}, panel)))
    assert found.subject == "kd"
    assert found.what.endswith("of stage2")
    assert found.anchor == "metric-novel"


def test_copied_errors_need_enough_errors():
    def results(errors: int) -> Results:
        runs = [
            {"run": f"kd-seed{seed}", "arm": "kd", "agreement_when_teacher_wrong": share}
            for seed, share in enumerate((0.70, 0.71, 0.72))
        ]
        effects = {"agreement_when_teacher_wrong": {"kd": gap(0.23, 0.11)}}
        values = {"teacher_errors": errors, "runs": runs, "effects": effects}
        return holding(metric("fidelity", values))

    assert told(copied(results(40))) == [
        "kd: copies 71% of the teacher's 40 wrong answers, +23 [+12, +34] points "
        "against the baseline"
    ]
    assert told(copied(results(29))) == []


def test_a_class_that_lost_is_named_and_one_that_gained():
    gains = {
        "effect": [-0.2, -0.3, 0.1, 0.4, None],
        "low": [-0.3, -0.4, -0.1, 0.3, None],
        "high": [-0.1, -0.2, 0.3, 0.5, None],
        "p_value": [0.01, 0.01, 0.9, 0.01, None],
    }
    values = {"names": list("abcde"), "images": [30] * 5, "gains": {"kd": gains}}
    assert told(classes(holding(metric("classes", values)))) == [
        "kd: lost accuracy in class 'b': −30 [−40, −20] points against the baseline (likewise 'a')",
        "kd: gained accuracy in class 'd': +40 [+30, +50] points against the baseline",
    ]


def test_only_students_exaggerate():
    values = {"above_one": {"kd": gap(0.5, 0.1), "baseline": gap(0.5, 0.1)}}
    (one,) = told(exaggerated(holding(metric("exaggeration", values))))
    assert one.startswith("kd: ")
    assert "1.50 [1.40, 1.60] times as fast" in one


def test_an_outlier_is_far_from_seeds_that_agree():
    near = {"kd_seed0": 0.8, "kd_seed1": 0.81}
    (found,) = doubts.outliers(holding(accurate(**near, kd_seed2=0.6)))
    assert found.subject == "kd-seed2"
    assert found.what == "60.0% right, while the other seeds of kd have 80.0 to 81.0%"
    assert not list(doubts.outliers(holding(accurate(**near, kd_seed2=0.78))))
    assert not list(doubts.outliers(holding(accurate(kd_seed0=0.8, kd_seed1=0.2))))


def test_guesses_and_a_weak_teacher_are_doubts():
    poor = holding(accurate(teacher=0.5, baseline_seed0=0.6, kd_seed0=0.11))
    assert told(doubts.guessing(poor)) == ["kd-seed0: no better than guessing among 10 classes"]
    assert told(doubts.weak_teacher(poor)) == [], "not all baselines were measured"
    base = {f"baseline_seed{seed}": 0.6 for seed in range(3)}
    assert told(doubts.weak_teacher(holding(accurate(teacher=0.5, **base)))) == [
        "The teacher: less accurate than the baseline: 50.0 against 60.0%"
    ]
    assert told(doubts.weak_teacher(holding(accurate(teacher=0.7, **base)))) == []


def test_missing_seeds_are_told_of_those_who_lack_them():
    study = specimen().study
    runs = tuple(run for run in study.runs if run.id not in ("kd-seed1", "kd-seed2"))
    fewer = holding(study=study.model_copy(update={"runs": runs}))
    assert told(doubts.few_seeds(specimen())) == []
    (found,) = doubts.few_seeds(fewer)
    assert (found.subject, found.what.split(";")[0]) == (
        "kd",
        "one seed in common with the baseline",
    )


def test_equal_problems_are_told_once_and_lead_to_their_metric():
    what = "its weights are no numbers"
    problems = [
        Problem(subject=name, what=what, left_out=True) for name in ("a", "b", "c", "d", "e")
    ]
    problems += [
        Problem(subject="Curves", what="few draws"),
        Problem(subject="Counts", what="full"),
    ]
    known = metric("curvature", {}, title="Curves"), metric("concepts", {}, title="Counts")
    found = list(doubts.problems(holding(*known, problems=tuple(problems))))
    assert [(one.subject, one.anchor, one.kind) for one in found] == [
        ("a, b, c and 2 more", "runs", "doubt"),
        ("Curves", "metric-curvature", "remark"),
        ("Counts", "metric-concepts", "doubt"),
    ]


def test_what_a_control_takes_away_is_a_doubt():
    (found,) = doubts.lost_to_controls(controlled())
    lost = [
        verdict
        for verdict in controlled().verdicts
        if verdict.outcome == "supported" and verdict.arm == "kd"
    ]
    assert found.subject == f"{len(lost)} supported verdicts are not supported against a control"
    assert found.what.startswith("H1 kd stage2, stage3; H2 kd logits")
    assert not list(doubts.lost_to_controls(specimen()))


def test_doubts_stand_first_and_leave_room():
    problems = tuple(Problem(subject=f"run {n}", what=f"odd {n}") for n in range(20))
    later = {f"kd, layer{n}": gap((-1) ** n * (n + 1.0), 0.5) for n in range(2)}
    values = {"effects": {"agreement": {"kd": gap(0.3, 0.2)}, "kl at 1": {"kd": gap(-1, 0.1)}}}
    found = findings(
        holding(metric("settling", {"later": later}), metric("fidelity", values), problems=problems)
    )
    kinds = [one.kind for one in found]
    assert kinds[:SHOWN] == ["doubt"] * DOUBTS + ["difference"] * (SHOWN - DOUBTS)
    assert len(found) == 20 + 4
    sizes = [one.weight for one in found if one.kind == "difference"]
    assert sizes == sorted(sizes, reverse=True)
    few = findings(holding(problems=problems))
    assert [one.subject for one in few] == [f"run {n}" for n in range(20)]


def test_a_remark_that_says_the_same_gives_way():
    values = {"effects": {"ece": {"kd": gap(0.1, 0.05)}}}
    remark = "confidences of {} are further from its accuracy than the baseline's: ECE +10 points"
    problems = tuple(
        Problem(subject="Calibration", what=remark.format(arm)) for arm in ("kd", "feature")
    )
    known = metric("calibration", values, title="Calibration")
    found = findings(holding(known, problems=problems))
    assert [(one.kind, one.subject) for one in found] == [
        ("difference", "kd"),
        ("remark", "Calibration"),
    ]
    assert "of feature" in found[1].what


def test_it_gives_way_for_all_whom_the_difference_names_and_for_no_other():
    values = {"effects": {"ece": {"kd": gap(0.1, 0.05), "feature": gap(0.1, 0.06)}}}
    remark = "confidences of {} are further from its accuracy than the baseline's: ECE +10 points"
    problems = tuple(
        Problem(subject="Calibration", what=remark.format(arm)) for arm in ("kd", "feature", "kd2")
    )
    found = findings(holding(metric("calibration", values, title="Calibration"), problems=problems))
    assert [one.what for one in found if one.kind == "remark"] == [remark.format("kd2")]


def test_of_few_images_nothing_is_told():
    gains = {"effect": [-0.3], "low": [-0.4], "high": [-0.2], "p_value": [0.001]}
    for images, count in ((29, 0), (30, 1)):
        few = {"names": ["a"], "images": [images], "gains": {"kd": gains}}
        assert len(told(classes(holding(metric("classes", few))))) == count
        effects = {"agreement_when_teacher_wrong": {"kd": gap(0.1, 0.05)}}
        runs = [{"arm": "kd", "agreement_when_teacher_wrong": 0.5}]
        shares = {"teacher_errors": images, "effects": effects, "runs": runs}
        assert len(told(copied(holding(metric("fidelity", shares))))) == count


def test_what_chance_gives_is_said_of_all_that_was_looked_at():
    ece = {"kd": gap(0.1, 0.05), "feature": gap(0.1, 0.5)}
    results = holding(metric("calibration", {"effects": {"ece": ece}}))
    assert len([one for _, found in told_gaps(results) for one in found]) == 2
    assert caution(results).startswith("1 of 2 differences")
    assert caution(holding()) == ""
    alike = {"kd": gap(0.1, 0.05), "feature": gap(0.1, 0.0)}
    shares = {"teacher_errors": 40, "effects": {"agreement_when_teacher_wrong": alike}}
    both = holding(metric("calibration", {"effects": {"ece": ece}}), metric("fidelity", shares))
    assert caution(both).startswith("2 of 3 differences"), "copied errors too, unless all alike"


@pytest.mark.parametrize("values", [{}, {"effects": None}, {"effects": [1]}, {"effects": {"x": 1}}])
def test_values_of_another_shape_are_passed_over(values):
    keys = {sentence.metric for sentence in SENTENCES} | {"classes"}
    strange = [metric(key, {**values, "gains": values, "runs": [1, {}]}) for key in sorted(keys)]
    assert findings(holding(*strange)) == ()


def test_every_finding_leads_to_a_chapter():
    for results in (specimen(), controlled()):
        keys = {chapter.key for chapter in chapters(results)}
        found = findings(results)
        assert found
        assert {one.anchor for one in found} <= keys


def test_a_difference_leads_to_the_plot_that_draws_its_numbers():
    ece = {"kd": gap(-0.1, 0.05), "feature": gap(0.1, 0.5)}
    drawn = (Effect(name="kd", value=-10, low=-15, high=-5),)
    others = (
        Effect(name="kd", value=-10, low=-16, high=-4),
        Effect(name="feature", value=-10, low=-15, high=-5),
        Effect(name="kd", value=-10, low=None, high=None),
        Effect(name="kd", value=0, low=0, high=0),
        Effect(name="kd", value=10, low=5, high=15),
    )
    plots = (
        Forest(title="Others", x_label="points", effects=others),
        Forest(title="Calibrated", x_label="points", effects=drawn),
    )
    results = holding(metric("calibration", {"effects": {"ece": ece}}, *plots))
    (found,) = findings(results)
    assert (found.anchor, found.panel) == ("metric-calibration", "Calibrated")
    assert evidence(found, chapters(results)) == "metric-calibration-2"
    text = page(results)
    assert '<a href="#metric-calibration-2">' in text
    assert text.count('id="metric-calibration-2"') == 1
    bare = holding(metric("calibration", {"effects": {"ece": ece}}))
    assert evidence(findings(bare)[0], chapters(bare)) == "metric-calibration"
    assert evidence(Finding("a", "b", "metric-gone", "doubt"), chapters(bare)) == ""
    twice = metric("calibration", {"effects": {"ece": ece}}, plots[1], plots[1])
    assert evidence(found, chapters(holding(twice))) == "metric-calibration-1"


def test_strength_has_a_ceiling_and_names_an_end():
    assert Gap("a", "", 1.0, 1.0, 1.0).strength == Gap("a", "", 1.0, 0.999, 1.001).strength == 50
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c", "d"]) == "a, b, c and d"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert Finding("a", "b", "c", "doubt").weight == 0


def test_seeds_that_are_all_alike_tell_no_difference():
    assert Gap("kd", "", -4.0, -4.1, -3.9).clear
    assert not Gap("kd", "", -4.0, -4.0, -4.0).clear
