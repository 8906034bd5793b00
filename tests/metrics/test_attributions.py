"""Attribution maps of made-up networks: the planted student looks as its teacher does."""

from collections.abc import Mapping

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.attribution_pictures import overlays
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.metrics.map_agreement import rank_correlation
from kdprobe.panels import Forest, Overlays, Table
from kdprobe.probes.contract import Sight, sight

N, SIDE = 12, 16
RUNS = [("teacher", "teacher", None)] + [
    (arm, role, seed)
    for arm, role in (("baseline", "baseline"), ("kd", "student"))
    for seed in range(3)
]


def noise(*key: int | str) -> np.ndarray:
    seed = [sum(map(ord, part)) if isinstance(part, str) else part for part in key]
    return np.random.default_rng(seed).normal(size=(N, SIDE, SIDE))


def objects() -> np.ndarray:
    on = np.zeros((N, SIDE, SIDE), dtype=np.uint8)
    on[:, 4:12, 4:12] = 1
    return on


def seen(wanted: Sight) -> Mapping[str, np.ndarray]:
    """The students' maps are nearly the teacher's, whose relevance is on the object alone."""
    settings = dict(wanted.settings)
    if wanted.probe == "pictures":
        pixels = np.full((N, SIDE, SIDE, 3), 90, dtype=np.uint8)
        return {"labels": np.zeros(N, int), "pixels": pixels, "object": objects()}
    method, run = settings["method"], wanted.subjects[0].run
    name = "conv" if method == "grad_cam" else method
    if wanted.probe == "map_checks":
        kinds = {"unexplained": 0.2, "by_chance": 0.9, "sensitivity": 0.1}
        return {f"{kind}/{name}": np.full(3, value) for kind, value in kinds.items()}
    theirs = np.where(objects() > 0, abs(noise("teacher", method)), -1.0)
    maps = {"t": theirs, "k": theirs + 0.3 * noise(run, method)}.get(run[0], noise(run, method))
    found = {"target": np.zeros(N, int), f"maps/{name}": maps.astype(np.float32)}
    if method == "integrated_gradients":
        miss = 0.3 if run == "kd0" else 0.01
        found |= {"gap": np.full(N, miss), "change": np.full(N, 1.0)}
    return found


def measured(**more):
    study = made_up(RUNS)
    return ask("attributions", study, scope(study, layers=("conv", "pooled")), seen, **more)


def test_a_student_that_looks_as_its_teacher_does_is_told():
    result = measured()
    assert set(result.runs["kd0"]) == {"IG", "I x G", "CAM conv", "occlusion"}
    for name in result.runs["kd0"]:
        student, baseline = result.runs["kd0"][name], result.runs["baseline0"][name]
        assert student.correlation > 0.7
        assert abs(baseline.correlation) < 0.1
        assert student.overlap > baseline.overlap + 0.2
        assert student.ssim > baseline.ssim + 0.2
        assert student.mass > 0.85
        assert baseline.mass == pytest.approx(result.area, abs=0.05)
        assert student.rank_accuracy > 0.9
        gained = result.correlation[f"kd {name}"]
        assert gained.low > 0.6
        assert (gained.seeds, gained.images) == (3, N)
        assert result.mass[f"kd {name}"].low > 0.5
        assert result.nearer[name]["kd"].effect == 0.5, "on all images"
    assert result.area == 0.25
    assert result.runs["teacher"]["IG"].correlation is None
    assert result.runs["teacher"]["IG"].mass == pytest.approx(1.0)


def test_what_agreement_is_worth_is_told_beside():
    known = measured().references["occlusion"]
    assert known.pairs == 3
    assert abs(known.independent["correlation"]) < 0.1
    maps = {
        run: seen(sight("attributions", made_up(RUNS).runs[i].last, method="occlusion"))
        for i, run in enumerate(["teacher", "b0", "b1", "b2", "kd0", "kd1", "kd2"])
    }
    theirs, *others = (found["maps/occlusion"] for found in maps.values())
    wanted = [rank_correlation(ours[:-1], theirs[1:]).sum() for ours in others]
    wanted += [rank_correlation(ours[-1:], theirs[:1]).sum() for ours in others]
    assert known.shuffled["correlation"] == pytest.approx(sum(wanted) / (6 * N))
    alone = ask("attributions", made_up(FAMILY), scope(made_up(FAMILY)), seen)
    assert alone.references["occlusion"].independent["correlation"] is None


def test_maps_are_checked_for_the_teacher_and_the_first_of_every_arm():
    result = measured()
    assert list(result.checks) == ["teacher", "baseline0", "kd0"]
    assert result.checks["kd0"]["CAM conv"].unexplained == pytest.approx(0.2)
    assert result.checks["kd0"]["CAM conv"].by_chance == pytest.approx(0.9)


def test_panels_and_findings():
    result = measured(shown=2)
    kinds = [type(panel) for panel in result.panels()]
    assert kinds == [Overlays, Forest, Forest, Table, Table, Table]
    (shown, *_, references, table, checks) = result.panels()
    assert [picture.name for picture in shown.pictures] == ["image 0", "image 1"]
    assert [(at.method, at.network) for at in shown.pictures[0].maps] == [
        (method, network)
        for method in ("IG", "CAM conv", "occlusion")
        for network in ("teacher", "baseline0", "kd0")
    ]
    values = shown.pictures[0].maps[0].values.unpack()
    assert abs(values).max() == pytest.approx(1.0, abs=0.01)
    assert shown.pictures[0].object.unpack().mean() == pytest.approx(0.25 * 255)
    assert len(table.rows) == 7 * 4
    assert "none at pooled." in table.how_to_read
    assert "25.0%" in table.how_to_read
    assert references.columns[-3:] == ("kd nearer %", "kd low", "kd high")
    assert references.rows[0][-3:] == (100.0, 100.0, 100.0)
    assert [row[-1] for row in checks.rows if row[:2] == ("kd0", "IG")] == [30.0]
    assert result.findings() == [
        "the integrated gradients of 1 of 7 networks miss more than 10% of the logit's change "
        "(most kd0: 30%); raise attributions.steps"
    ]


def test_pictures_of_large_images_are_small():
    chance = np.random.default_rng(0)
    arms = [(arm, "student", 0) for arm in ("b", "c", "d", "e", "f")]
    study = made_up([("teacher", "teacher", None), *arms])
    size = (4, 224, 200)
    look = {"labels": np.zeros(4, int), "pixels": chance.integers(0, 256, (*size, 3))}
    look["object"] = np.zeros(size)
    methods = ("IG", "I x G", "CAM conv", "occlusion")
    maps = {run.id: {m: chance.normal(size=(4, 64, 57)) for m in methods} for run in study.runs}
    panel = overlays(study, scope(study), look, maps, 4)
    assert [len(picture.maps) for picture in panel.pictures] == [15] * 4
    assert len(panel.model_dump_json()) < 200_000


def test_without_masks_there_is_no_share_on_the_object():
    study = made_up(RUNS)
    result = ask("attributions", study, scope(study, has_masks=False), seen)
    assert result.area is None
    assert result.mass == {}
    assert result.runs["kd0"]["IG"].mass is None
    assert result.pictures.pictures[0].object is None


def test_idle_maps_are_counted_and_left_out():
    def idle(wanted):
        found = dict(seen(wanted))
        empty = 0
        if wanted.probe == "attributions":
            empty = {"kd1": 2, "kd2": 1}.get(wanted.subjects[0].run, 0)
        if empty:
            key = next(key for key in found if key.startswith("maps/"))
            found[key] = np.concatenate([found[key][:-empty], np.zeros((empty, SIDE, SIDE))])
            if "gap" in found:
                found["gap"] = np.full(N, 0.1 + 0.2 * empty)
        return found

    study = made_up(RUNS)
    result = ask("attributions", study, scope(study), idle)
    assert result.runs["kd1"]["occlusion"].idle == 2
    assert result.runs["kd1"]["occlusion"].correlation > 0.7
    missing, told = result.findings()
    assert "of 3 of 7 networks miss more than 10%" in missing
    assert "(most kd1: 50%)" in missing
    assert told.startswith("maps of 2 of 7 networks are the same everywhere and are left out")
    assert f"(most of kd1: 8 of {4 * N})" in told


class Partly(dict):
    """Raises for what was refused."""

    def __getitem__(self, wanted):
        found = super().__getitem__(wanted)
        if isinstance(found, str):
            raise Refused(found)
        return found


def test_what_could_not_be_seen_is_left_out_and_told():
    study = made_up(RUNS)
    inquiry = METRICS["attributions"].ask(study, scope(study))
    looks = Partly(
        (s, "no gradient" if s.probe != "pictures" and _is(s, "kd2", "occlusion") else seen(s))
        for s in next(inquiry)
    )
    result = conclude(inquiry, looks)
    assert result.lacking() == ["no gradient"]
    assert "occlusion" not in result.runs["kd2"]
    assert result.correlation["kd occlusion"].seeds == 2
    assert result.correlation["kd IG"].seeds == 3


def test_without_the_teachers_maps_the_objects_are_left():
    study = made_up(RUNS)
    inquiry = METRICS["attributions"].ask(study, scope(study))
    looks = Partly(
        (s, "gone" if s.probe != "pictures" and s.subjects[0].run == "teacher" else seen(s))
        for s in next(inquiry)
    )
    result = conclude(inquiry, looks)
    assert result.pictures is None
    assert result.correlation == {}
    assert result.mass["kd IG"].low > 0.5
    assert [type(panel) for panel in result.panels()] == [Forest, Table, Table, Table]


def test_checks_that_failed_are_told_and_the_rest_stands():
    study = made_up(RUNS)
    inquiry = METRICS["attributions"].ask(study, scope(study))
    looks = Partly((s, "no checks" if s.probe == "map_checks" else seen(s)) for s in next(inquiry))
    result = conclude(inquiry, looks)
    assert result.checks == {}
    assert result.lacking() == ["no checks"]


def _is(wanted: Sight, run: str, method: str) -> bool:
    return wanted.subjects[0].run == run and dict(wanted.settings)["method"] == method


def test_the_label_needs_no_second_network():
    for target, count in (("teacher", 2), ("label", 1)):
        sights = next(
            METRICS["attributions"].ask(made_up(RUNS), scope(made_up(RUNS)), target=target)
        )
        assert {len(s.subjects) for s in sights if s.probe != "pictures"} == {count}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"methods": ("grad_camm",)}, "did you mean 'grad_cam'"),
        ({"target": "student"}, "found attributions.target='student'.*wanted teacher, label"),
        ({"reference": "noise"}, "wanted zeros, mean"),
        ({"top": 1.0}, "found attributions.top=1; wanted a share"),
    ],
)
def test_unknown_choices_are_refused(more, told):
    with pytest.raises(UsageError, match=told):
        measured(**more)


def test_what_has_no_meaning_is_told():
    with pytest.raises(NotApplicable, match="needs a teacher"):
        ask("attributions", made_up(RUNS[1:]), scope(made_up(RUNS)), seen)
    with pytest.raises(NotApplicable, match="only a teacher"):
        ask("attributions", made_up(RUNS[:1]), scope(made_up(RUNS)), seen)
    with pytest.raises(NotApplicable, match="needs at least 2 images, found 1"):
        ask("attributions", made_up(RUNS), scope(made_up(RUNS), available=1), seen)

    def flat(wanted):
        found = seen(wanted)
        return {"target": found["target"]} if wanted.probe == "attributions" else found

    with pytest.raises(NotApplicable, match="needs a layer with places for Grad-CAM"):
        ask("attributions", made_up(RUNS), scope(made_up(RUNS)), flat, methods=("grad_cam",))
