"""Colours by role: the same names on page and paper, and tones that stay apart."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest
from specimen_controls import RANDOM, SMOOTH, controlled

from kdprobe.report.colours import PRINT, ROLES, Colours, first_dash

CSS = files("kdprobe.report").joinpath("templates", "page.css").read_text("utf-8")
THEMES = [dict(re.findall(r"--([a-z]+-\d): (#\w{6});", part)) for part in CSS.split("--paper:")[1:]]
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175]]
    + [[0.0193339, 0.119192, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
SIGHTS = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "any": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216]]
        + [[-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413]]
        + [[-0.01182, 0.04294, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602]]
        + [[0.004733, 0.691367, 0.3039]]
    ),
}


def lab(tone: str, sight: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of a ``#rrggbb`` as it is seen."""
    share = np.array([int(tone[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(sight @ linear, 0, 1) / WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, two: str) -> float:
    """The least that any kind of sight keeps of the difference."""
    return min(
        float(np.linalg.norm(lab(one, sight) - lab(two, sight))) for sight in SIGHTS.values()
    )


@pytest.mark.parametrize("tones", [PRINT, *THEMES])
def test_controls_are_told_from_all_others_and_each_other_by_everyone(tones):
    roles = {name: tone for name, tone in tones.items() if name.split("-")[0] in ROLES}
    controls = {name for name in roles if name.startswith("control")}
    assert len(controls) == 3
    for one, two in combinations(roles, 2):
        if controls & {one, two}:
            assert distance(roles[one], roles[two]) > 15, f"{one} and {two}"


def test_page_and_paper_know_the_same_names():
    assert len(THEMES) == 3
    assert {name: tone for name, tone in THEMES[0].items() if name in PRINT} == PRINT
    assert all(PRINT.keys() <= theme.keys() for theme in THEMES)
    assert THEMES[1] == THEMES[2], "dark by the system and dark by the button"
    for name in PRINT:
        assert CSS.count(f"--{name}-band: ") == 3


def test_an_arm_keeps_its_tone():
    colours = Colours(controlled())
    assert colours.of("control", SMOOTH) == colours.of("control", f"{SMOOTH}-seed2") == "control-0"
    assert colours.of("control", RANDOM, place=7) == "control-1"
    assert colours.of("student", "kd") == "student-0"
    assert colours.of("", SMOOTH) == "other-0"
    assert [first_dash(role) for role in ROLES] == [0, 0, 0, 1, 2]
