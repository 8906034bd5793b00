"""Blocks of made-up looks: ratios, jackknife, what can be spared, and the page."""

from collections.abc import Mapping

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.metrics.reuse import cka_between, cka_of_blocks, mean_and_error, ratio
from kdprobe.panels import Forest, Heatmap, Lines, Table

N, CHANCE = 40, np.random.default_rng(0)


def test_a_ratio_of_nothing_is_not_defined():
    found = ratio(np.array([[2.0, 1.0, 0.0]]), np.array([[4.0, 0.0, 3.0]]))
    np.testing.assert_array_equal(found, [[0.5, np.nan, 0.0]])


def test_means_leave_out_what_is_not_defined():
    values = np.array([[1.0, 2.0, 3.0, np.nan], [np.nan] * 4, [5.0, np.nan, np.nan, np.nan]])
    mean, error = mean_and_error(values)
    np.testing.assert_allclose(mean, [2, np.nan, 5])
    np.testing.assert_allclose(error, [1 / 3**0.5, np.nan, np.nan])


def test_the_jackknife_of_equal_batches_is_none_and_of_others_is_theirs():
    hsic = np.abs(CHANCE.normal(size=(6, 2, 3))) + 1
    sizes = np.full(6, 10)
    cka, error = cka_of_blocks(hsic, sizes)
    whole = hsic.sum(0)
    np.testing.assert_allclose(cka, whole[:, 0] / np.sqrt(whole[:, 1] * whole[:, 2]))
    again = []
    for left in range(6):
        rest = np.delete(hsic, left, axis=0).mean(0)
        again.append(rest[:, 0] / np.sqrt(rest[:, 1] * rest[:, 2]))
    np.testing.assert_allclose(error, np.std(again, axis=0) * 5**0.5)
    _, none = cka_of_blocks(np.repeat(hsic[:1], 6, axis=0), sizes)
    np.testing.assert_allclose(none, 0, atol=1e-12)


def test_batches_weigh_by_their_images():
    hsic = np.array([[[1.0, 1, 1]], [[0.0, 1, 1]]])
    assert cka_of_blocks(hsic, np.array([30, 10]))[0] == pytest.approx([0.75])


@pytest.mark.parametrize("batches", [0, 1])
def test_few_batches_have_no_error_and_none_no_value(batches):
    cka, error = cka_of_blocks(np.ones((batches, 2, 3)), np.full(batches, 8))
    assert np.isnan(error).all()
    assert np.isnan(cka).all() == (batches == 0)


def test_a_constant_block_has_no_cka():
    cka, _ = cka_of_blocks(np.array([[[0.0, 0.0, 1.0], [0.5, 1.0, 1.0]]]), np.array([8]))
    np.testing.assert_allclose(cka, [np.nan, 0.5])


def test_pairs_of_blocks_are_normalised_by_their_own():
    between = np.array(
        [[[4.0, 1, 0], [1, 1, 0.1], [0, 0.1, 1]], [[2.0, 1, 0], [1, 1, 0], [0, 0, 0]]]
    )
    found = cka_between(between, np.array([30, 10]))
    hsic = (3 * between[0] + between[1]) / 4
    wanted = hsic / np.sqrt(np.outer(np.diag(hsic), np.diag(hsic)))
    np.testing.assert_allclose(found, wanted)
    assert np.isnan(cka_between(between[:0], np.zeros(0))).all()
    assert np.isnan(cka_between(between[1:], np.ones(1))[2]).all(), "a constant block has none"


def seen(sight) -> Mapping[str, np.ndarray]:
    """Three blocks; the second can be left out, the third has another shape; 90% accuracy."""
    run = sight.subjects[0].run
    right = np.arange(N) % 10 > 0
    lost = right & (np.arange(N) % 2 > 0)
    update = np.ones((3, N)) * (2 if run.startswith("kd") else 1)
    return {
        "names": np.frombuffer(b"first\nsecond\nthird", dtype=np.uint8),
        "same": np.array([True, True, False]),
        "update": update * np.array([[1], [1], [0]]),
        "size": np.ones((3, N)) * np.array([[2], [4], [0]]),
        "right": right,
        "without": np.stack([right & ~lost, right, right]),
        "still": np.stack(
            [right if run.startswith("kd") else right & ~lost, right, right & ~right]
        ),
        "labels": np.arange(N) % 4,
        "within": np.ones((2, 3, 3)) * np.array([0.5, 1, 1]),
        "between": np.ones((2, 3, 3)),
        "sizes": np.array([20, 20]),
    }


STUDY = made_up([*FAMILY, ("baseline", "baseline", 1), ("kd", "student", 1)])


def test_losses_updates_and_effects_are_those_of_the_look():
    result = ask("reuse", STUDY, scope(STUDY), seen)
    at = result.runs["baseline0"]
    assert result.images == N
    assert at.accuracy == pytest.approx(0.9)
    assert at.most == pytest.approx(0.25)
    np.testing.assert_allclose(at.update, [0.5, 0.25, np.nan])
    np.testing.assert_allclose(at.without, [0.5, 0, np.nan])
    np.testing.assert_allclose(at.still, [0.5, 0, 0.9])
    paired = np.where(np.arange(N) % 2 > 0, 1.0, 0)
    assert at.still_error[0] == pytest.approx(paired.std(ddof=1) / N**0.5)
    np.testing.assert_allclose(at.cka, 0.5)
    assert at.neighbours == pytest.approx(1)
    assert result.effects["kd: update"].effect == pytest.approx(0.75 - 0.375)
    lost = (0 + 0 + 0.9) / 3 - (0.5 + 0 + 0.9) / 3
    assert result.effects["kd: lost"].effect == pytest.approx(lost / (0.9 - 0.25))


def test_what_every_seed_can_spare_is_told():
    told = ask("reuse", STUDY, scope(STUDY), seen).findings()
    assert any(t.startswith("kd: without second the accuracy falls") and "every" in t for t in told)
    assert any(t.startswith("teacher: without second") and "every" not in t for t in told)
    assert not any("first" in t or "third" in t for t in told)


@pytest.mark.parametrize(("spoiled", "surely"), [("kd1", True), ("kd", False)])
def test_a_block_that_one_seed_needs_or_may_need_is_not_spare(spoiled, surely):
    def partly(sight):
        found = dict(seen(sight))
        if sight.subjects[0].run.startswith(spoiled):
            right = found["right"]
            swapped = right.copy()
            swapped[:2] = ~swapped[:2]  # as many right as before, and not the same
            none = [right, right & ~right, right] if surely else [right & ~right, swapped, right]
            found["without"] = np.stack(none)
        return found

    arms = {
        sentence.split(":")[0] for sentence in ask("reuse", STUDY, scope(STUDY), partly).findings()
    }
    assert arms == {"teacher", "baseline"}


def test_a_network_that_guesses_can_spare_nothing_and_has_no_share_to_lose():
    def guessing(sight):
        right = np.arange(N) < 12  # a little more than the commonest class would give
        return {**seen(sight), "right": right, "without": np.stack([right] * 3)}

    result = ask("reuse", STUDY, scope(STUDY), guessing)
    assert result.findings() == []
    assert np.isnan(result.effects["kd: lost"].effect)
    assert result.panels()


def test_the_page_leaves_out_what_is_not_defined():
    updates, kept, lesions, effects, table = ask("reuse", STUDY, scope(STUDY), seen).panels()
    assert all(isinstance(panel, Lines) for panel in (updates, kept, lesions))
    assert isinstance(effects, Forest)
    assert isinstance(table, Table)
    assert updates.series[0].x == (1, 2)
    assert lesions.series[0].x == (1, 2, 3)
    assert {line.name for line in updates.series} == {"teacher", "baseline", "kd"}
    assert len(table.rows) == 5 * 3
    assert table.rows[2][:5] == ("teacher", "third", "no", None, None)


def test_networks_with_other_blocks_are_not_averaged():
    def various(sight):
        found = dict(seen(sight))
        if sight.subjects[0].run == "kd1":
            found["names"] = np.frombuffer(b"a\nb\nc", dtype=np.uint8)
        return found

    *_, lesions, _, table = ask("reuse", STUDY, scope(STUDY), various).panels()
    assert not next(line for line in lesions.series if line.name == "kd").low, "one seed is left"
    assert ("kd1", "a") in {row[:2] for row in table.rows}


def test_what_cannot_be_looked_at_is_told_and_the_rest_goes_on():
    inquiry = METRICS["reuse"].ask(STUDY, scope(STUDY))
    sights = next(inquiry)

    class Partly(dict):
        def __missing__(self, sight):
            raise Refused("found no block")

    found = Partly({s: seen(s) for s in sights if s.subjects[0].run != "teacher"})
    result = conclude(inquiry, found)
    assert "teacher" not in result.runs
    assert result.lacking() == ["found no block"]


@pytest.mark.parametrize("without", [("teacher",), ("teacher", "baseline0", "kd0")])
def test_networks_without_blocks_are_left_out_and_told(without):
    def partly(sight):
        none = {"names": np.zeros(0, np.uint8)}
        return none if sight.subjects[0].run in without else seen(sight)

    study = made_up(FAMILY)
    if len(without) == 3:
        with pytest.raises(NotApplicable, match=r"needs modules .*; found none .*; name some"):
            ask("reuse", study, scope(study), partly)
    else:
        result = ask("reuse", study, scope(study), partly)
        assert set(result.runs) == {"baseline0", "kd0"}
        assert [reason[:27] for reason in result.lacking()] == ["found no block in teacher; "]


def test_many_blocks_have_a_map():
    def deep(sight):
        found = dict(seen(sight))
        for key in ("same", "update", "size", "without", "still"):
            found[key] = np.concatenate([found[key], found[key][:1]])
        found["names"] = np.frombuffer(b"a\nb\nc\nd", dtype=np.uint8)
        found["within"] = np.ones((2, 4, 3))
        found["between"] = np.broadcast_to(np.eye(4) + 1, (2, 4, 4))
        return found

    maps = [p for p in ask("reuse", STUDY, scope(STUDY), deep).panels() if isinstance(p, Heatmap)]
    assert [panel.title.split()[2] for panel in maps] == ["teacher", "baseline", "kd"]
    assert maps[0].values[1] == (0.5, 1.0, 0.5, 0.5)
    assert maps[0].rows == ("a", "b", "c", "d")
