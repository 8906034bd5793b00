"""Colours by role: the same names on page and paper, and tones that stay apart."""

import re
from itertools import combinations

import numpy as np
import pytest
from specimen_controls import RANDOM, SMOOTH, controlled

from kdprobe.report.colours import OUTCOME_PRINT, PRINT, ROLES, Colours, first_dash
from kdprobe.report.themes import DARK, LIGHT, css

APART = 13.0  # CIE76; about 2.3 is the least that can be seen side by side
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


def light(tone: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it, from the standard's own formula."""
    parts = [int(tone[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    """From 1, the same, to 21, black on white."""
    low, high = sorted((light(one), light(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_everyone_tells_every_network_from_every_other(theme):
    for one, two in combinations(PRINT, 2):
        assert distance(theme[one], theme[two]) > APART, f"{one} and {two}"


def test_the_simulation_is_that_of_the_paper():
    for sight in SIGHTS.values():
        assert np.allclose(sight.sum(1), 1, atol=2e-6), "grey stays grey"
    assert distance("#ff0000", "#ff0000") == 0
    assert float(np.linalg.norm(lab("#ffffff", SIGHTS["any"]) - [100, 0, 0])) < 0.02
    red, green = "#b4783c", "#829628"  # told apart by their redness alone
    seen = {
        name: float(np.linalg.norm(lab(red, sight) - lab(green, sight)))
        for name, sight in SIGHTS.items()
    }
    assert seen["any"] > 2 * seen["no green"]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out(theme):
    """WCAG 2.2: 4.5 to 1 for text (1.4.3), 3 to 1 for what is drawn (1.4.11)."""
    for ground in ("card", "paper", "soft"):
        assert contrast(theme["ink"], theme[ground]) > 7
        assert min(contrast(theme[name], theme[ground]) for name in ("muted", "link")) > 4.5
    for name in PRINT:
        assert contrast(theme[name], theme["card"]) >= 3, name
    for outcome in OUTCOME_PRINT:
        name = outcome.replace(" ", "-")
        assert contrast(theme[name], theme[f"{name}-soft"]) > 4.5, name


def test_page_and_paper_know_the_same_names():
    assert LIGHT.keys() == DARK.keys()
    assert {name: LIGHT[name] for name in PRINT} == PRINT
    for name in LIGHT:
        assert css().count(f"--{name}: ") == 3
    for name in PRINT:
        assert css().count(f"--{name}-band: ") == 3


def test_the_night_is_no_night_on_paper_and_yields_to_the_switch():
    day, night = css().split("@media screen {", 1)
    assert DARK["paper"] in night
    assert DARK["paper"] not in day
    assert re.search(r'prefers-color-scheme: dark\) \{ :root:not\(\[data-theme="light"\]\)', night)
    assert css().count("{") == css().count("}")


def test_an_arm_keeps_its_tone():
    colours = Colours(controlled())
    assert colours.of("control", SMOOTH) == colours.of("control", f"{SMOOTH}-seed2") == "control-0"
    assert colours.of("control", RANDOM, place=7) == "control-1"
    assert colours.of("student", "kd") == "student-0"
    assert colours.of("", SMOOTH) == "other-0"
    assert [first_dash(role) for role in ROLES] == [0, 0, 0, 1, 2]
