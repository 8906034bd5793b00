"""The pictures of concepts, and the report that they stand in."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from stage import FAMILY, ask, made_up, scope

from kdprobe.metrics.concept_page import SATURATION
from kdprobe.metrics.discarding import background_level, concepts, entropy
from kdprobe.metrics.gallery import SPREAD, STABLE, UNSTABLE, pictured
from kdprobe.metrics.looking import ConceptLook
from kdprobe.metrics.scope import Discarding
from kdprobe.panels import Gallery, Lines, Table
from kdprobe.report.pictures import CONCEPT_INK, tiles

N, G = 3, 4
CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 256, size=(N, 8, 8, 3)).astype(np.uint8)
MASK = (CHANCE.random((N, 8, 8)) < 0.5).astype(np.uint8)
COVERAGE = np.zeros((N, G * G))
COVERAGE[:, : 2 * G] = 1
MEMBERS = np.broadcast_to(np.arange(8)[:, None] // 2 * G + np.arange(8) // 2, (N, 8, 8))
CUT = Discarding(b=0.2, sweep=(0.2, 1.0), grid=G)
PICTURES = {
    "coverage": COVERAGE,
    "sizes": np.full((N, G * G), 4.0),
    "labels": np.array([0, 1, 1]),
    "pixels": PIXELS,
    "object": MASK,
    "members": MEMBERS,
}


def groups(run: str, epoch: int) -> np.ndarray:
    """(u, n, q): the baseline's energies are shaky, the others are exact."""
    chance = np.random.default_rng(len(run) + epoch)
    found = chance.gamma(1.0, size=(N, G * G))
    found[:, : 2 * G] *= {"teacher": 8, "kd0": 4}.get(run, 2)
    return found * (chance.gamma(1.5, size=(8, N, G * G)) if run == "baseline0" else 1)


def seen(sight):
    if sight.probe == "pictures":
        return PICTURES
    drawn = groups(sight.subjects[0].run, sight.subjects[0].epoch)
    if drawn.ndim == 2:
        return {"energy/logits": drawn}
    return {"energy/logits": drawn.mean(0), "groups/logits": drawn}


def look(study, cut: Discarding = CUT) -> ConceptLook:
    return ConceptLook(scope(study, layers=("logits",), discarding=cut), study)


def gallery_of(how: ConceptLook, looked, study, images: int) -> Gallery | None:
    """The first images under the maps of all runs at the logits."""
    return pictured(how, looked, study, "logits", networks=study.runs, rows=range(images), b=1.0)


@pytest.fixture
def shown() -> Gallery:
    study = made_up(FAMILY)
    how = look(study)
    looks = [how.pictures, *(how.at(run.last) for run in study.runs)]
    return gallery_of(how, {s: seen(s) for s in looks}, study, 3)


def test_the_networks_stand_side_by_side(shown):
    assert len(shown.pictures) == 3
    assert [picture.label for picture in shown.pictures] == ["a", "b", "b"]
    networks = [(one.network, one.role) for one in shown.pictures[0].maps]
    assert networks == [("teacher", "teacher"), ("baseline0", "baseline"), ("kd0", "student")]


def kept(energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, q) entropies against the background, and concepts at 1 nat."""
    h = entropy(energy, CUT.lam, CUT.noise)
    level = background_level(h, COVERAGE < 0.5)
    return h - level[:, None], concepts(h, level, [1.0])[0]


def test_pictures_and_maps_are_what_was_seen(shown):
    kinds = set()
    for i, picture in enumerate(shown.pictures):
        np.testing.assert_allclose(picture.pixels.unpack(), PIXELS[i])
        np.testing.assert_allclose(picture.object.unpack(), 255.0 * MASK[i])
        for one in picture.maps:
            drawn = groups(one.network, 2)
            above, found = kept(drawn.mean(0) if drawn.ndim == 3 else drawn)
            wanted = np.clip(above[i], -SPREAD, SPREAD).reshape(G, G)
            assert np.abs(one.entropy.unpack() - wanted).max() <= SPREAD / 255 + 1e-9
            marks = np.where(found[i], STABLE, 0)
            if drawn.ndim == 3:
                again = [kept(group)[1][i] for group in drawn]
                marks[found[i] & (np.mean(again, axis=0) < 0.5)] = UNSTABLE
            np.testing.assert_allclose(one.concepts.unpack(), marks.reshape(G, G))
            assert (one.found, one.units) == (found[i].sum(), G * G)
            kinds |= set(marks)
    assert {0, STABLE} <= kinds


def restarts_gallery() -> Gallery:
    """Three restarts of the paper: all find unit 0, the first alone finds unit 5."""
    study, cut = made_up(FAMILY[1:2]), Discarding(grid=G, estimator="paper", restarts=3)
    h = np.where(COVERAGE > 0.5, 0.0, 0.01) * np.ones((3, 1, 1))
    h[:, :, 0] = h[0, :, 5] = -2
    how, seen = look(study, cut), {"entropy/logits": h[0], "groups/logits": h}
    looked = {how.at(c): seen for c in study.runs[0].checkpoints} | {how.pictures: PICTURES}
    return gallery_of(how, looked, study, 1)


def test_concepts_that_other_draws_do_not_find_are_marked():
    (one,) = restarts_gallery().pictures[0].maps
    marks = one.concepts.unpack().ravel()
    assert {unit: marks[unit] for unit in np.flatnonzero(marks)} == {0: STABLE, 5: UNSTABLE}
    assert one.found == 2


def test_what_is_marked_unstable_has_a_thinner_frame():
    shown = restarts_gallery()
    _, composite = tiles(shown)[0][1]
    image = np.asarray(Image.open(io.BytesIO(composite.image)))
    side = image.shape[0] // G
    white = (image == CONCEPT_INK).all(-1)

    def inked(unit: int) -> int:
        row, column = divmod(unit, G)
        return int(white[row * side : (row + 1) * side, column * side : (column + 1) * side].sum())

    assert (inked(0), inked(5), inked(2)) == (frame(side, 2), frame(side, 1), 0)


def frame(side: int, thick: int) -> int:
    """The pixels of a square frame."""
    return side**2 - (side - 2 * thick) ** 2


def test_a_dead_layer_is_drawn_as_discarded():
    study = made_up(FAMILY[:1])
    how = look(study)
    looked = {how.pictures: PICTURES, how.at(study.runs[0].last): {"energy/logits": 0 * COVERAGE}}
    (one,) = gallery_of(how, looked, study, 1).pictures[0].maps
    assert (one.entropy.unpack() == SPREAD).all()
    assert (one.concepts.unpack() == 0).all()
    assert one.found == 0


def parts_gallery() -> tuple[Gallery, np.ndarray]:
    """Three parts of which the second image lacks one; and which part every pixel is of."""
    study, cut = made_up(FAMILY[:1]), Discarding(b=0.2, sweep=(0.2, 1.0), units="parts")
    members = np.full((N, 8, 8), -1)
    members[:, :3], members[:, 3:6] = 0, 1
    members[0, 6:, :2] = 2
    sizes = np.stack([(members == part).sum((1, 2)) for part in range(3)], axis=1)
    pictures = PICTURES | {
        "coverage": np.array([[1.0, 0.0, 1.0]] * N),
        "sizes": sizes.astype(float),
        "members": members,
    }
    how = look(study, cut)
    energy = np.array([[9.0, 0.1, 5.0], [1.0, 0.1, 0.0], [1.0, 0.2, 0.0]])
    looked = {how.pictures: pictures, how.at(study.runs[0].last): {"energy/logits": energy}}
    return gallery_of(how, looked, study, 2), members


def test_parts_are_drawn_pixel_by_pixel():
    shown, members = parts_gallery()
    for picture, image in zip(shown.pictures, members[:2], strict=True):
        (one,) = picture.maps
        assert one.entropy.shape == one.concepts.shape == (8, 8)
        drawn = one.entropy.unpack()
        for part in range(3):
            assert len(np.unique(drawn[image == part])) <= 1
        assert (drawn[image == -1] == SPREAD).all(), "of no part: nothing is kept of it"
        assert (one.concepts.unpack()[image == -1] == 0).all()
    first, second = (picture.maps[0] for picture in shown.pictures)
    assert (first.found, first.units) == (2, 3)
    assert (second.found, second.units) == (1, 2), "an absent part is no unit"
    np.testing.assert_array_equal(first.concepts.unpack() > 0, np.isin(members[0], (0, 2)))


def test_a_gallery_of_parts_becomes_pictures():
    shown, _ = parts_gallery()
    for picture, row in tiles(shown):
        plain, composite = row
        image = np.asarray(Image.open(io.BytesIO(composite.image)))
        assert composite.kind == "webp"
        assert image.shape == np.asarray(Image.open(io.BytesIO(plain.image))).shape == (192, 192, 3)
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
        (one,) = picture.maps
        assert composite.note == f"{one.found} concept{'s' if one.found > 1 else ''}"
        assert f"{one.found} of {one.units} cells are concepts" in composite.alt


def test_of_sequences_there_is_no_gallery():
    study = made_up(FAMILY[:1])
    how = look(study, Discarding(units="tokens"))
    bare = {name: PICTURES[name] for name in ("coverage", "sizes", "labels")}
    looked = {how.pictures: bare, how.at(study.runs[0].last): {"energy/logits": 1 + COVERAGE}}
    assert gallery_of(how, looked, study, 1) is None


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
    assert row[5] == pytest.approx(count.background[1].mean(), abs=0.01)
    assert row[4] == row[6] == 0, "it is exact"
    assert row[7] == pytest.approx(count.share[1], abs=1e-3)
    assert row[8] == pytest.approx(100 * count.foreground[1].mean() / 8, abs=0.1)
    assert row[9] == pytest.approx(100 * count.background[1].mean() / 8, abs=0.1)
    assert row[10] == pytest.approx(count.log_odds[1].mean(), abs=0.01)
    rough = next(row for row in table.rows if row[:3] == ("baseline0", "logits", 1.0))
    error = result.runs["baseline0"]["logits"].count_error[1]
    assert (rough[4], rough[6]) == pytest.approx(error, abs=1e-3)
    assert rough[4] > 0
    assert len(set(table.columns)) == len(table.columns) == len(row)


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
