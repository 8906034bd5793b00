"""The chapters of a comparison, as they were agreed."""

from pathlib import Path

from comparable import results
from golden import must_be_as_before

from kdprobe.comparing.comparison import compare
from kdprobe.comparing.gate import judge_rule
from kdprobe.report.comparison_chapters import comparison_chapters

FOLDER = Path(__file__).parent / "golden"


def test_the_chapters_are_as_agreed():
    found = compare([results("old"), results("new", gains={"kd": -0.05}, chance=1)])
    gates = (judge_rule(found, "rho < baseline - 0.05"),)
    must_be_as_before(comparison_chapters(found, gates), FOLDER / "comparison.json")
