"""Sides and places keep apart, whatever their names look like when they are joined."""

from comparable import results

from kdprobe.comparing.comparison import compare
from kdprobe.comparing.sides import apart
from kdprobe.report.comparison import comparison_page
from kdprobe.report.comparison_rows import subjects


def test_a_name_met_before_gets_a_number_that_is_free():
    assert apart(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]


def test_sides_whose_joined_names_are_the_same_stay_two():
    sources = [results("a", arms=("b/c",), seeds=2), results("a/b", arms=("c",), seeds=3)]
    found = compare(sources, by="arm")
    assert [(s.name, s.study, s.arm, len(s.runs)) for s in found.sides] == [
        ("a/teacher", "a", "teacher", 1),
        ("a/b/c", "a", "b/c", 2),
        ("a/b/teacher", "a/b", "teacher", 1),
        ("a/b/c (2)", "a/b", "c", 3),
    ]
    (row,) = (row for row in found.rows if row.quantity == "accuracy")
    assert [len(sample.points) for sample in row.samples] == [1, 2, 1, 3]
    (gap,) = (
        d
        for d in found.against("a/b/c").differences
        if d.quantity == "accuracy" and d.side == "a/b/c (2)"
    )
    assert gap.effect == row.samples[3].mean - row.samples[1].mean
    assert "a/b/c (2)" in comparison_page(found)


def test_a_run_is_told_from_that_of_another_study_of_a_like_name():
    pair = [results("a", arms=("b/c",), seeds=1), results("a/b", arms=("c",), seeds=1)]
    found = compare(pair, by="run", runs=["b/c-seed0", "c-seed0"])
    assert [(s.name, s.study) for s in found.sides] == [
        ("a/b/c-seed0", "a"),
        ("a/b/c-seed0 (2)", "a/b"),
    ]


def test_places_whose_joined_names_are_the_same_have_their_own_ranks():
    """Arm ``x`` at layer ``y, z`` and arm ``x, y`` at layer ``z`` both read ``x, y, z``."""
    arms, layers = ("x", "x, y"), ("y, z", "z")
    gains = [{"x": 0.1, "x, y": 0.0}, {"x": 0.0, "x, y": 0.1}]
    pair = [
        results(name, arms=arms, layers=layers, gains=gain)
        for name, gain in zip(("one", "two"), gains, strict=True)
    ]
    found = compare(pair)
    groups = [group for subject in subjects(found) for group in subject.groups]
    places = next(group for group in groups if group.name == "rho").places
    alike = [place.lines[0].rank[0] for place in places if place.where == "x, y, z"]
    assert alike == ["1", "2"]
