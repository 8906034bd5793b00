"""Dimensions by layer and run: planted ones are found, and the page says what has none."""

import numpy as np
import pytest
from clouds import gaussian, rotation, seen
from stage import FAMILY, LAYERS, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.contract import METRICS, as_values, conclude
from kdprobe.metrics.spread import dimensions
from kdprobe.panels import Forest, Lines

SEEDS = (0, 1, 2)
STUDY = made_up(
    [
        FAMILY[0],
        *(("baseline", "baseline", s) for s in SEEDS),
        *(("kd", "student", s) for s in SEEDS),
    ]
)
FEW = {"images": 60, "k": 5, "half_samples": 6}


def features(run: str) -> tuple[np.ndarray, np.ndarray]:
    """Students have twice as many dimensions in their last hidden layer as baselines have."""
    d = 8 if run.startswith("kd") else 4
    seed = sum(map(ord, run))
    return gaussian(60, d, seed) @ rotation(16, seed)[:d], gaussian(60, 3, seed + 500)


def answer(sight):
    return seen(*features(sight.subjects[0].run))


@pytest.fixture(scope="module")
def result():
    return ask("dimension", STUDY, scope(STUDY), answer, **FEW)


def test_planted_dimensions_and_their_doubling_are_found(result):
    assert list(result.runs) == [run.id for run in STUDY.runs]
    kd, baseline = result.runs["kd0"], result.runs["baseline0"]
    assert kd.widths.tolist() == [16, 3]
    assert kd.effective_rank[0] == pytest.approx(7.6, abs=0.5)
    assert baseline.effective_rank[0] == pytest.approx(3.9, abs=0.3)
    assert ((kd.errors > 0) & (kd.errors < 3)).all()
    pooled = result.effects["kd · rank · pooled"]
    assert pooled.low < 1 < pooled.high + 0.1
    assert pooled.low > 0.8
    logits = result.effects["kd · rank · logits"]
    assert logits.low < 0 < logits.high
    assert result.effects["kd · TwoNN · pooled"].effect > 0.3
    np.testing.assert_allclose(kd.gaussian[:2, 1], [2.92, 2.86], atol=0.02)
    assert np.abs(np.log2(kd.gaussian[2:] / [kd.two_nn, kd.mle])).max() < 1


def test_the_page_follows_the_depth_and_compares_with_the_baseline(result):
    ranks, intrinsic, effects, table = result.panels()
    assert isinstance(ranks, Lines)
    assert [series.name for series in ranks.series] == ["teacher", "baseline", "kd"]
    assert ranks.series[2].y[0] == pytest.approx(
        np.mean([result.runs[f"kd{s}"].effective_rank[0] for s in SEEDS])
    )
    assert (ranks.x_label, ranks.x_names) == ("layer", ("pooled", "logits"))
    runs = result.runs.values()
    assert intrinsic.series[2].y[1] == pytest.approx(
        np.mean([result.runs[f"kd{s}"].two_nn[1] for s in SEEDS])
    )
    assert intrinsic.series[-1].name == "Gaussians of the same spread"
    assert intrinsic.series[-1].y[0] == pytest.approx(np.mean([at.gaussian[2, 0] for at in runs]))
    assert isinstance(effects, Forest)
    assert len(effects.effects) == 4
    assert len(table.rows) == 7 * len(LAYERS)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert not result.findings()


def test_errors_are_as_large_as_other_images_would_change_the_value():
    study = made_up(FAMILY)
    told = [dimensions_of(seed) for seed in range(80)]
    truth = np.std(told, axis=0)
    found = ask(
        "dimension",
        study,
        scope(study),
        lambda sight: seen(gaussian(60, 6, 1) ** 3, gaussian(60, 2, 1)),
        **FEW | {"half_samples": 100},
    )
    error = found.runs["kd0"].errors[:, 0]
    assert (error > 0.6 * truth).all()
    assert (error < 2 * truth).all()


def dimensions_of(seed: int) -> np.ndarray:
    from clouds import shapes

    return dimensions(shapes(gaussian(60, 6, seed + 100) ** 3), 5)


def test_a_layer_that_does_not_vary_has_none_and_deserves_a_sentence():
    def still(sight):
        x, y = features(sight.subjects[0].run)
        return seen(x, np.ones((60, 3)) if sight.subjects[0].run == "kd1" else y)

    result = ask("dimension", STUDY, scope(STUDY), still, **FEW)
    values = as_values(result)["runs"]["kd1"]
    assert values["effective_rank"][1] is values["two_nn"][1] is values["errors"][0][1] is None
    assert values["effective_rank"][0] is not None
    (told,) = result.findings()
    assert told.endswith("in logits of kd1")
    *lines, _, table = result.panels()
    assert all(None in series.y for series in (lines[0].series[2], lines[1].series[2]))
    assert "logits of kd1" in table.how_to_read


def test_layers_of_one_network_alone_are_in_the_table_and_not_in_the_lines():
    layers = {run.id: LAYERS for run in STUDY.runs} | {"teacher": ("stem", *LAYERS)}

    def answer(sight):
        x, y = features(sight.subjects[0].run)
        return seen(x, x, y) if sight.subjects[0].run == "teacher" else seen(x, y)

    result = ask("dimension", STUDY, scope(STUDY, similarity_layers=layers), answer, **FEW)
    assert result.runs["teacher"].layers == ("stem", *LAYERS)
    assert result.panels()[0].x_names == ("pooled", "logits")
    assert result.panels()[-1].rows[0][:2] == ("teacher", "stem")


def test_no_teacher_and_no_pair_are_no_hindrance():
    study = made_up(FAMILY[1:2])
    result = ask("dimension", study, scope(study), answer, **FEW)
    assert list(result.runs) == ["baseline0"]
    assert not any(isinstance(panel, Forest) for panel in result.panels())


def test_a_run_that_cannot_be_seen_is_left_out_and_told():
    class Partly(dict):
        def __missing__(self, sight):
            raise Refused("kd1 has diverged")

    asked = METRICS["dimension"].ask(STUDY, scope(STUDY), **FEW)
    sights = [sight for sight in next(asked) if sight.subjects[0].run != "kd1"]
    result = conclude(asked, Partly({sight: answer(sight) for sight in sights}))
    assert "kd1" not in result.runs
    assert result.lacking() == ("kd1 has diverged",)


def test_what_gives_no_estimate_is_refused():
    with pytest.raises(
        NotApplicable, match=r"needs at least 24 images .* found 20; add test images or lower"
    ):
        ask("dimension", STUDY, scope(STUDY, available=20), answer)
    for settings in ({"k": 1}, {"half_samples": 1}):
        with pytest.raises(UsageError, match="is 1; wanted at least 2"):
            ask("dimension", STUDY, scope(STUDY), answer, **settings)
