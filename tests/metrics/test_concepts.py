"""What is said of concepts: findings, tables and curves of studies made up for it."""

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.metrics.concepts import concepts
from kdprobe.metrics.scope import Discarding
from kdprobe.panels import Lines, Table, Viewer

N, Q = 4, 16
ON = np.broadcast_to(np.arange(Q) < 8, (N, Q))
PICTURES = {"coverage": ON.astype(float), "sizes": np.ones((N, Q)), "labels": np.zeros(N, int)}


def energy(run: str, epoch: int) -> np.ndarray:
    chance = np.random.default_rng(len(run) + epoch)
    return chance.gamma(2.0, size=(N, Q)) * np.where(ON, 3.0, 1.0)


def entropies(run: str, epoch: int) -> np.ndarray:
    return -0.5 * np.log(energy(run, epoch))


def reported(answer, epochs=(0, 1, 2), family=FAMILY, **cut):
    study = made_up(family, epochs)
    cut = Discarding(**{"b": 0.5, "sweep": (0.2, 0.5), "grid": 4, **cut})
    asked = scope(study, layers=("logits",), discarding=cut)

    def seen(sight):
        if sight.probe == "pictures":
            return PICTURES
        (subject,) = sight.subjects
        return answer(subject.run, subject.epoch)

    return ask("concepts", study, asked, seen)


def exact(run: str, epoch: int) -> dict[str, np.ndarray]:
    return {"energy/logits": energy(run, epoch)}


def rows(result, name: str) -> dict[str, dict[str, object]]:
    """The table called `name`, by run; of several rows the last."""
    panels = [panel for panel in result.panels() if isinstance(panel, Table)]
    table = next(panel for panel in panels if panel.name == name)
    assert len(set(table.columns)) == len(table.columns)
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_without_pictures_there_are_numbers_alone():
    result = reported(exact)
    kinds = [type(panel) for panel in result.panels()]
    assert Viewer not in kinds
    assert kinds.count(Lines) == 3, "two curves and the sweep"
    assert kinds.count(Table) == 3
    assert result.findings() == []
    assert result.effective == {"logits": 1.0}


def test_what_needs_no_threshold_stands_in_a_table():
    result = reported(exact)
    for run, told in rows(result, "concepts_scale_free").items():
        at = result.runs[run]["logits"]
        assert told["AUROC"] == pytest.approx(at.auroc.mean(), abs=1e-3)
        assert told["average precision"] == pytest.approx(at.precision.mean(), abs=1e-3)
        assert told["background sd (nats)"] == pytest.approx(at.sd, abs=1e-3)
        assert told["λ at 1 sd"] == pytest.approx(at.share_sd[1], abs=1e-3)


def test_how_sure_the_concepts_are_stands_in_a_table():
    shaken = np.random.default_rng(0).gamma(4.0, 0.25, size=(8, N, Q))

    def answer(run, epoch):
        if run == "teacher":
            return exact(run, epoch)
        groups = shaken * energy(run, epoch)
        return {"energy/logits": groups.mean(0), "groups/logits": groups}

    result = reported(answer)
    told = rows(result, "concepts_errors")
    teacher = list(told["teacher"].values())[2:]
    assert teacher == [0.0, 1.0, 0.0, 0, None], "it is exact"
    for run in ("baseline0", "kd0"):
        at = result.runs[run]["logits"]
        assert told[run]["error of H (nats)"] == pytest.approx(at.entropy_error, abs=1e-3)
        assert 0.03 < at.entropy_error < 0.2
        assert told[run]["Jaccard"] == pytest.approx(at.jaccard[at_b(result)], abs=1e-3)
        assert told[run]["Jaccard"] < 1
    counts = rows(result, "concepts")
    assert counts["kd0"]["± MC"] > 0 == counts["teacher"]["± MC"]


def at_b(result) -> int:
    return result.thresholds.index(0.5)


def test_dead_layers_are_told_of():
    def answer(run, epoch):
        found = energy(run, epoch)
        if run == "kd0" and epoch == 2:
            found[:3] = 0
        return {"energy/logits": found}

    (told,) = reported(answer).findings()
    assert told.startswith("kd0: layer logits answers to no part of 3 images; they are left out")


def fitted(run: str, epoch: int) -> dict[str, np.ndarray]:
    h = entropies(run, epoch)
    return {
        "entropy/logits": h,
        "groups/logits": np.stack([h, h]),
        "converged/logits": np.arange(N) > (0 if run == "kd0" else -1),
        "distortion/logits": np.full(N, 3.1),
    }


def test_maps_that_did_not_converge_are_counted_and_told():
    result = reported(fitted, estimator="fit")
    assert {run: at["logits"].unconverged for run, at in result.runs.items()} == {
        "teacher": 0,
        "baseline0": 0,
        "kd0": 1,
    }
    (told,) = result.findings()
    assert told.startswith("3 of 28 entropy maps at logits, of all checkpoints, did not converge")
    table = rows(result, "concepts_errors")
    assert table["kd0"]["unconverged maps"] == 1
    assert table["kd0"]["feature loss"] == 3.1


def test_the_papers_filter_is_told_and_is_no_dead_layer():
    def answer(run, epoch):
        h = np.where(ON, 0.0, 1.0) + 0.01 * entropies(run, epoch)
        if run == "kd0":
            h[0] *= -1
        return {"entropy/logits": h, "groups/logits": np.stack([h, h])}

    result = reported(answer, estimator="paper")
    assert result.effective == {"logits": 0.75}
    assert "the paper's filter keeps 75% of the images at logits" in result.findings()
    assert not [told for told in result.findings() if "answers to no part" in told]
    left_out = result.runs["baseline0"]["logits"]
    assert left_out.dead_images == 0
    assert np.isnan(left_out.foreground).sum(1).tolist() == [1, 1], "for all alike"


def test_a_dead_image_beside_the_filter_is_told_of():
    def answer(run, epoch):
        h = np.where(ON, 0.0, 1.0) + np.zeros((N, 1))
        if run == "teacher":
            h[1] = np.nan  # the teacher has no say in the filter
        return {"entropy/logits": h, "groups/logits": np.stack([h, h])}

    told = reported(answer, estimator="paper").findings()
    assert any(one.startswith("teacher: layer logits answers to no part of 1 im") for one in told)


def test_counts_of_another_estimator_with_the_same_entropies_are_the_same():
    """Entropies differ by a constant of every image that is the same for all of its units."""
    closed = reported(exact, level="image")
    fit = reported(fitted, estimator="fit", level="image")
    for run in closed.runs:
        one, two = closed.runs[run]["logits"], fit.runs[run]["logits"]
        np.testing.assert_array_equal(one.foreground, two.foreground)
        np.testing.assert_array_equal(one.background, two.background)
        np.testing.assert_allclose(one.precision, two.precision)


def test_the_level_of_every_image_makes_images_of_other_levels_alike():
    lift = np.array([0.0, 3.0, -3.0, 1.0])[:, None]

    def lifted(run, epoch):
        seen = fitted(run, epoch)
        moved = ("entropy/logits", "groups/logits")
        return {k: v + lift if k in moved else v for k, v in seen.items()}

    for level in ("image", "data"):
        plain, moved = (
            reported(answer, estimator="fit", level=level).runs["kd0"]["logits"]
            for answer in (fitted, lifted)
        )
        same = np.array_equal(plain.foreground, moved.foreground)
        assert same == (level == "image")


def test_the_docstring_says_what_is_measured():
    for word in ("jacobian", "fit", "paper", "lambda"):
        assert word in concepts.__doc__
