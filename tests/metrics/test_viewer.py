"""The gallery over training: what it holds is what was seen, and nothing was looked at for it."""

from dataclasses import replace

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

import kdprobe.metrics.viewer as room
from kdprobe.metrics.discarding import background_level, entropy
from kdprobe.metrics.gallery import SPREAD, pictured
from kdprobe.metrics.looking import ConceptLook
from kdprobe.metrics.scope import Discarding
from kdprobe.metrics.viewer import SIDE, STEP, fitting, levelled, viewer, watched
from kdprobe.panels import Viewer

N, G = 3, 4
B = 1.0
CHANCE = np.random.default_rng(0)
COVERAGE = np.zeros((N, G * G))
COVERAGE[:, : 2 * G] = 1
PICTURES = {
    "coverage": COVERAGE,
    "sizes": np.full((N, G * G), 4.0),
    "labels": np.array([0, 1, 1]),
    "pixels": CHANCE.integers(0, 256, size=(N, 8, 8, 3)).astype(np.uint8),
    "object": (CHANCE.random((N, 8, 8)) < 0.5).astype(np.uint8),
    "members": np.broadcast_to(np.arange(8)[:, None] // 2 * G + np.arange(8) // 2, (N, 8, 8)),
}
CUT = Discarding(b=0.2, sweep=(0.2, 1.0), grid=G)
LAYERS = ("pooled", "logits")


def energies(run: str, epoch: int, layer: str) -> np.ndarray:
    """(n, q), other at every checkpoint and layer."""
    found = np.random.default_rng([len(run), epoch, len(layer)]).gamma(1.0, size=(N, G * G))
    found[:, : 2 * G] *= 4
    return found


def seen(sight):
    if sight.probe == "pictures":
        return PICTURES
    (at,) = sight.subjects
    found = {f"energy/{layer}": energies(at.run, at.epoch, layer) for layer in LAYERS}
    return found | {
        f"groups/{layer}": found[f"energy/{layer}"]
        * np.random.default_rng(at.epoch).gamma(1.5, size=(8, N, G * G))
        for layer in LAYERS
    }


class Looked(dict):
    """Answers every sight, and remembers which were asked for."""

    def __missing__(self, sight):
        self[sight] = seen(sight)
        return self[sight]


def shown(study, images: int = N, cut: Discarding = CUT, looked: Looked | None = None):
    how = ConceptLook(scope(study, layers=LAYERS, discarding=cut), study)
    return viewer(how, Looked() if looked is None else looked, study, shown=images, b=B)


@pytest.fixture
def study():
    return made_up([*FAMILY, ("kd", "student", 1)])


@pytest.fixture
def panel(study) -> Viewer:
    return shown(study)


def test_a_level_tells_every_threshold_of_its_steps_exactly():
    kept = CHANCE.normal(0, 2, size=20_000)
    drawn = levelled(kept, B).unpack()
    for steps in range(-60, 60):
        b = B + steps * STEP
        inside = np.abs(kept) < 5
        np.testing.assert_array_equal((drawn > b)[inside], (kept > b)[inside])
    assert np.abs(drawn - kept)[np.abs(kept) < 5].max() <= STEP / 2 + 1e-9
    assert levelled(np.array([np.nan]), B).unpack() == levelled(np.array([-99.0]), B).unpack()


def test_it_holds_the_first_seeds_at_all_epochs_and_the_teacher_at_its_end(panel):
    found = [(one.name, one.role, one.epochs) for one in panel.networks]
    assert found == [
        ("teacher", "teacher", (2,)),
        ("baseline0", "baseline", (0, 1, 2)),
        ("kd0", "student", (0, 1, 2)),
    ]
    assert panel.layers == LAYERS
    assert panel.kept.shape == panel.unstable.shape == (2, 7, N, G * G)
    assert [picture.label for picture in panel.pictures] == ["a", "b", "b"]


def test_maps_are_entropies_against_the_background(panel):
    kept = panel.kept.unpack()
    for place, layer in enumerate(LAYERS):
        at = 0
        for network in panel.networks:
            for epoch in network.epochs:
                h = entropy(energies(network.name, epoch, layer), CUT.lam, CUT.noise)
                wanted = background_level(h, COVERAGE < 0.5)[:, None] - h
                assert np.abs(kept[place, at] - wanted).max() <= STEP / 2 + 1e-9
                at += 1


def test_its_last_epoch_is_what_explain_draws(study, panel):
    how = ConceptLook(scope(study, layers=LAYERS, discarding=CUT), study)
    runs = [run for run in study.runs if run.seed != 1]
    for place, layer in enumerate(LAYERS):
        still = pictured(how, Looked(), study, layer, networks=runs, rows=range(N), b=B)
        assert still is not None
        for i, picture in enumerate(still.pictures):
            for at, one in zip((0, 3, 6), picture.maps, strict=True):
                kept = panel.kept.unpack()[place, at, i].reshape(G, G)
                shaky = panel.unstable.unpack()[place, at, i].reshape(G, G) > 127
                marks = np.where(kept > B, np.where(shaky, 128, 255), 0)
                np.testing.assert_array_equal(one.concepts.unpack(), marks)
                near = np.clip(-kept, -SPREAD, SPREAD)
                assert np.abs(one.entropy.unpack() - near).max() < STEP


def test_nothing_is_looked_at_for_it(study):
    whole, looked = Looked(), Looked()
    ask("concepts", study, scope(study, layers=LAYERS, discarding=CUT), whole.__getitem__)
    without = Looked()
    ask(
        "concepts", study, scope(study, layers=LAYERS, discarding=CUT), without.__getitem__, shown=0
    )
    shown(study, looked=looked)
    assert set(without) == set(whole) >= set(looked)


def test_pictures_are_as_they_were_and_large_ones_are_taken_down(study, panel):
    np.testing.assert_allclose(panel.pixels.unpack(), PICTURES["pixels"])
    np.testing.assert_allclose(panel.object.unpack(), 255.0 * PICTURES["object"])
    np.testing.assert_array_equal(panel.sides.unpack() > 192, COVERAGE > 0.5)
    large = np.repeat(np.repeat(PICTURES["pixels"], 32, axis=1), 32, axis=2)
    objects = np.repeat(np.repeat(PICTURES["object"], 32, axis=1), 32, axis=2)
    how = ConceptLook(scope(study, layers=LAYERS, discarding=CUT), study)
    looked = Looked({how.pictures: PICTURES | {"pixels": large, "object": objects}})
    found = shown(study, looked=looked)
    assert found.pixels.shape == (N, SIDE, SIDE, 3)
    np.testing.assert_allclose(found.pixels.unpack()[:, ::16, ::16], PICTURES["pixels"])
    np.testing.assert_allclose(found.object.unpack()[:, ::16, ::16], 255.0 * PICTURES["object"])


def test_of_parts_every_pixel_knows_its_unit():
    study, cut = made_up(FAMILY[:1]), Discarding(b=0.2, sweep=(0.2, 1.0), units="parts")
    members = np.full((N, 8, 8), -1)
    members[:, :3], members[:, 3:6], members[0, 6:, :2] = 0, 1, 299
    sizes = np.stack([(members == part).sum((1, 2)) for part in range(300)], axis=1)
    pictures = PICTURES | {
        "coverage": np.zeros((N, 300)),
        "sizes": sizes.astype(float),
        "members": members,
    }
    how = ConceptLook(scope(study, layers=("logits",), discarding=cut), study)
    energy = {"energy/logits": np.where(sizes > 0, 1.0, 0.0)}
    looked = {how.pictures: pictures, how.at(study.runs[0].last): energy}
    found = viewer(how, looked, study, shown=N, b=B)
    assert found is not None
    assert found.members is not None
    high, low = np.moveaxis(found.members.unpack().round().astype(int), -1, 0)
    np.testing.assert_array_equal(256 * high + low - 1, members)
    np.testing.assert_array_equal(found.sides.unpack() > 0, sizes > 0)


def test_of_sequences_and_of_no_image_there_is_none(study):
    assert shown(study, images=0) is None
    cut = Discarding(units="tokens")
    bare = {name: PICTURES[name] for name in ("coverage", "sizes", "labels")}
    how = ConceptLook(scope(study, layers=LAYERS, discarding=cut), study)
    assert viewer(how, {how.pictures: bare}, study, shown=1, b=B) is None


def test_without_common_epochs_networks_are_shown_at_their_end():
    study = made_up(FAMILY)
    apart = [
        replace(run, checkpoints=run.checkpoints[place : place + 1])
        for place, run in enumerate(study.runs)
    ]
    found = watched(replace(study, runs=tuple(apart)))
    assert [[c.epoch for c in those] for those in found.values()] == [[0], [1], [2]]


def test_past_a_limit_there_are_fewer_checkpoints_and_then_fewer_images():
    study = made_up(FAMILY, epochs=range(40))
    whole = watched(study)
    same, images = fitting(whole, 3, 16, 256)
    assert (same, images) == (whole, 16)
    fewer, images = fitting(whole, 3, 200, 512)
    kept = list(fewer.values())[1]
    assert images == room.MOST_IMAGES
    assert 2 < len(kept) < 40
    assert (kept[0].epoch, kept[-1].epoch) == (0, 39)
    assert 3 * sum(map(len, fewer.values())) * images * 512 <= room.MOST_UNITS
    ends, images = fitting(whole, 3, 64, 100_000)
    assert [len(those) for those in ends.values()] == [1, 2, 2]
    assert images == 4


def test_what_there_was_no_room_for_is_told(study, monkeypatch):
    assert shown(study).note == ""
    assert shown(study, images=2).note == (
        "The first 2 of the 3 images in the sample; --set concepts.shown=3 shows more."
    )
    monkeypatch.setattr(room, "MOST_UNITS", 2 * 5 * N * G * G)
    found = shown(study)
    assert found.note == "Only 2 of 3 checkpoints of a network are shown."
    assert [one.epochs for one in found.networks] == [(2,), (0, 2), (0, 2)]
    monkeypatch.setattr(room, "MOST_UNITS", 2 * 5 * 2 * G * G)
    assert shown(study).note.endswith("Only the first 2 of the 3 images asked for are shown.")
    monkeypatch.setattr(room, "MOST_IMAGES", 1)
    assert shown(study, images=1).note.endswith("The first 1 of the 3 images in the sample.")
