"""The first screen: gains with intervals, rulings in words, and the same numbers everywhere."""

from statistics import fmean, stdev

import pytest
from scipy.stats import t as student_t
from specimen import specimen
from specimen_controls import controlled
from specimen_metrics import ACCURACY
from test_page import Reader
from test_paper import words

from kdprobe.report.accuracies import Gain
from kdprobe.report.findings import SHOWN
from kdprobe.report.headline import Arm, headline
from kdprobe.report.html import page
from kdprobe.report.numbers import interval, percent
from kdprobe.report.pdf import pdf
from kdprobe.results import Results


@pytest.fixture(scope="module")
def first() -> str:
    """The text of the page's first screen, without spaces."""
    text = page(specimen()).split('<section id="verdicts"')[0].split("<body>")[1]
    return "".join("".join(Reader(text).text).split())


def with_runs(keep: tuple[str, ...]) -> Results:
    study = specimen().study
    runs = tuple(run for run in study.runs if run.id in keep)
    return specimen().model_copy(update={"study": study.model_copy(update={"runs": runs})})


def test_a_gain_has_the_interval_of_student_over_pairs_of_seeds():
    pairs = [ACCURACY[f"kd-seed{n}"] - ACCURACY[f"baseline-seed{n}"] for n in range(3)]
    reach = student_t.ppf(0.975, 2) * stdev(pairs) / 3**0.5
    arm = {arm.name: arm for arm in headline(specimen()).arms}["kd"]
    assert arm.gain == pytest.approx(fmean(pairs))
    assert (arm.gain_low, arm.gain_high) == pytest.approx(
        (fmean(pairs) - reach, fmean(pairs) + reach)
    )
    assert arm.gain_in_points == "+4.5 [+1.5, +7.5]"


def test_what_rounds_to_nothing_has_no_sign():
    assert interval(Gain(-0.02, -3.2, 3.1)) == "0.0 [−3.2, +3.1]"
    assert interval(Gain(-0.02)) == "−0.020"
    assert interval(Gain(0.0)) == "0.0"


def test_two_seeds_have_a_gain_and_no_interval():
    kept = ("baseline-seed0", "baseline-seed1", "kd-seed0", "kd-seed1")
    arm = headline(with_runs(kept)).arms[-1]
    assert arm.gain == pytest.approx((0.861 + 0.858 - 0.818 - 0.824) / 2)
    assert (arm.gain_low, arm.gain_high) == (None, None)
    assert arm.gain_in_points == "+3.9"
    assert "no interval: 2 seeds in common" in page(with_runs(kept))


def test_without_a_common_seed_the_means_are_compared():
    arm = headline(with_runs(("baseline-seed0", "kd-seed1", "kd-seed2"))).arms[-1]
    assert arm.gain == pytest.approx((0.858 + 0.867) / 2 - 0.818)
    assert (arm.gain_low, arm.no_interval) == (None, "no seeds in common")


def with_shares(**shares: tuple[float, ...]) -> Arm:
    """The first screen's kd, when its and the baseline's accuracies are those."""
    known = {
        f"{arm}-seed{seed}": one for arm, all_ in shares.items() for seed, one in enumerate(all_)
    }
    metrics = [
        metric.model_copy(
            update={
                "values": metric.values
                | {"runs": [{"run": run, "accuracy": one} for run, one in known.items()]}
            }
        )
        if metric.key == "accuracy"
        else metric
        for metric in specimen().metrics
    ]
    found = headline(specimen().model_copy(update={"metrics": tuple(metrics)})).arms
    return {arm.name: arm for arm in found}["kd"]


def test_seeds_that_are_all_alike_have_no_interval_whatever_their_rounding():
    arm = with_shares(baseline=(0.3, 0.3, 0.3), kd=(0.5, 0.5, 0.5))
    assert (arm.gain_in_points, arm.no_interval) == ("+20", "3 seeds, all alike")


def test_a_gain_of_shares_stays_one():
    arm = with_shares(baseline=(0.3, 0.3, 0.9), kd=(0.9, 0.8, 0.85))
    assert arm.gain_high == 1.0


def test_a_ruling_is_one_plain_sentence():
    claims = {claim.code: claim for claim in headline(specimen()).claims}
    said = {
        (code, ruling.arm): (ruling.sentence, ruling.why)
        for code, claim in claims.items()
        for ruling in claim.rulings
    }
    assert said["H1", "kd"] == ("supported at stage2 and stage3, undecided at logits", "")
    assert said["H3", "kd"] == (
        "supported at every layer",
        "Every compared quantity moves as stated, in all three seeds.",
    )
    assert said["H2", "feature"][0] == "could not be judged"


def test_the_same_numbers_on_page_and_paper(first):
    """Of every network, verdict and finding of the object, in its own digits."""
    paper, top = words(pdf(specimen())), headline(specimen())
    for arm in top.arms:
        assert arm.accuracy == pytest.approx(fmean(arm.seeds))
        assert first.count(percent(arm.accuracy)) >= 1
        assert percent(arm.accuracy) in paper
        assert all(percent(seed) in first for seed in arm.seeds)
        if arm.gain is not None:
            assert arm.gain_in_points.replace(" ", "") in first
            assert f"{arm.gain_in_points}points".replace(" ", "") in paper
    for verdict in specimen().verdicts:
        for estimate in verdict.estimates[:1]:
            shown = f"{estimate.quantity} {interval(estimate)}".replace(" ", "")
            assert shown in first
            assert shown in paper
    for entry in (*top.attention, *top.unjudged):
        assert f"{entry.subject}: {entry.what}".replace(" ", "") in first
        assert "".join(entry.what.split()) in paper
    assert top.sentence.replace(" ", "") in first
    assert top.sentence.replace(" ", "") in paper


def test_findings_beyond_the_first_are_folded_not_lost():
    top = headline(controlled())
    assert top.attention == (*top.first, *top.further)
    many = specimen().model_copy(
        update={
            "problems": tuple(
                specimen()
                .problems[0]
                .model_copy(update={"subject": f"run {n}", "what": f"odd {n}"})
                for n in range(12)
            )
        }
    )
    rest = len(headline(many).attention) - SHOWN
    assert len(headline(many).further) == rest > 6
    text = page(many)
    assert f"<summary>{rest} more</summary>" in text
    assert all(f"odd {n}<" in text for n in range(12))
