"""The pictures of concepts, and the report that they stand in."""

from dataclasses import replace

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.metrics.concepts import SATURATION
from kdprobe.metrics.contract import Discarding
from kdprobe.metrics.discarding import ConceptLook, background_level, concepts, entropy
from kdprobe.metrics.gallery import SPREAD, gallery
from kdprobe.panels import Gallery, Lines, Table

N, G = 3, 4
CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 256, size=(N, 8, 8, 3)).astype(np.uint8)
MASK = (CHANCE.random((N, 8, 8)) < 0.5).astype(np.uint8)
COVERAGE = np.zeros((N, G, G))
COVERAGE[:, :2] = 1
CUT = Discarding(b=0.2, sweep=(0.2, 1.0), grid=G)


def energy(run: str, epoch: int) -> np.ndarray:
    found = np.random.default_rng(len(run) + epoch).gamma(1.0, size=(N, G, G))
    found[:, :2] *= {"teacher": 8, "kd0": 4}.get(run, 2)
    return found


def seen(sight):
    if sight.probe == "pictures":
        labels = np.array([0, 1, 1])
        return {"coverage": COVERAGE, "labels": labels, "pixels": PIXELS, "object": MASK}
    g = energy(sight.subjects[0].run, sight.subjects[0].epoch)
    return {"energy/logits": g, "error/logits": 0.1 * g}


@pytest.fixture
def shown() -> Gallery:
    study = made_up([*FAMILY, ("kd", "student", 1)])
    how = ConceptLook(scope(study, layers=("logits",), discarding=CUT))
    looks = [how.pictures, *(how.at(run.last) for run in study.runs)]
    return gallery(how, {s: seen(s) for s in looks}, study, "logits", shown=2, b=1.0)


def test_the_networks_of_the_first_seed_stand_side_by_side(shown):
    assert len(shown.pictures) == 2
    assert [picture.label for picture in shown.pictures] == ["a", "b"]
    networks = [(one.network, one.role) for one in shown.pictures[0].maps]
    assert networks == [("teacher", "teacher"), ("baseline0", "baseline"), ("kd0", "student")]


def test_pictures_and_maps_are_what_was_seen(shown):
    on = COVERAGE >= 0.5
    for i, picture in enumerate(shown.pictures):
        np.testing.assert_allclose(picture.pixels.unpack(), PIXELS[i])
        np.testing.assert_allclose(picture.object.unpack(), 255.0 * MASK[i])
        for one in picture.maps:
            h = entropy(energy(one.network, 2), CUT.lam)
            level = background_level(h, on)
            wanted = np.clip(h[i] - level, -SPREAD, SPREAD)
            assert np.abs(one.entropy.unpack() - wanted).max() <= SPREAD / 255 + 1e-9
            kept = concepts(h, level, [1.0])[0, i]
            np.testing.assert_allclose(one.concepts.unpack(), 255.0 * kept)


def test_a_dead_layer_is_drawn_as_discarded():
    study = made_up(FAMILY[:1])
    how = ConceptLook(scope(study, layers=("logits",), discarding=CUT))
    dead = {"energy/logits": np.zeros((N, G, G)), "error/logits": np.zeros((N, G, G))}
    looked = {how.pictures: seen(how.pictures), how.at(study.runs[0].last): dead}
    (one,) = gallery(how, looked, study, "logits", shown=1, b=1.0).pictures[0].maps
    assert (one.entropy.unpack() == SPREAD).all()
    assert (one.concepts.unpack() == 0).all()


@pytest.fixture
def result():
    study = made_up(FAMILY)
    return ask("concepts", study, scope(study, layers=("logits",), discarding=CUT), seen)


def test_counts_and_curves_end_alike(result):
    assert set(result.runs) == {"teacher", "baseline0", "kd0"}
    assert set(result.curves) == {"baseline0", "kd0"}
    for run, at in result.curves.items():
        count, curve = result.runs[run]["logits"], at["logits"]
        assert curve.foreground[-1] == pytest.approx(count.foreground[0].mean())
        assert curve.background[-1] == pytest.approx(count.background[0].mean())
    assert result.object_cells.tolist() == [8] * N
    assert result.background_cells.tolist() == [8] * N
    assert ((count.share >= 0) & (count.share <= 1)).all()


def test_the_table_has_a_row_a_run_and_threshold(result):
    table = next(panel for panel in result.panels() if isinstance(panel, Table))
    assert len(table.rows) == 3 * 2
    row = next(row for row in table.rows if row[:3] == ("kd0", "logits", 1.0))
    count = result.runs["kd0"]["logits"]
    assert row[3] == pytest.approx(count.foreground[1].mean(), abs=0.01)
    assert row[7] == pytest.approx(count.share[1], abs=1e-3)
    assert row[8] == pytest.approx(100 * count.foreground[1].mean() / 8, abs=0.1)


def test_a_threshold_that_nearly_all_cells_pass_is_told(result):
    wanted = [
        run
        for run, at in result.runs.items()
        if at["logits"].foreground[0].sum() > SATURATION * 8 * N
    ]
    assert wanted == ["teacher"]
    assert list(result.saturated["logits"]) == wanted
    (told,) = result.findings()
    assert "1 of 3 networks at logits" in told
    assert replace(result, saturated={"logits": []}).findings() == []


def test_without_common_epochs_there_is_no_curve():
    study = made_up(FAMILY[:1])
    result = ask("concepts", study, scope(study, layers=("logits",), discarding=CUT), seen)
    assert result.curves == {}
    kinds = [type(panel) for panel in result.panels()]
    assert kinds.count(Lines) == 1, "the sweep alone"
