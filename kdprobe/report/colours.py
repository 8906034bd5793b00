"""Which colour has which network?  Teacher blue, baseline grey, students warm, controls violet.

The tones are told apart by people with any kind of colour blindness, as Machado, Oliveira and
Fernandes (2009) simulate it, and lines differ in dash as well. These are the tones on white;
`themes.py` has those of the night.
"""

from collections.abc import Iterable

from kdprobe.results import Results

PRINT = {
    "teacher-0": "#0b5fa5",
    "teacher-1": "#2f93d9",
    "baseline-0": "#4d463e",
    "baseline-1": "#7c8a86",
    "student-0": "#c8480c",
    "student-1": "#b38e44",
    "student-2": "#956296",
    "student-3": "#7a4a1e",
    "control-0": "#7b22d4",
    "control-1": "#3a0f52",
    "control-2": "#12128a",
    "reference-0": "#415262",
    "other-0": "#1b7e58",
    "other-1": "#6a5acd",
}
OUTCOME_PRINT = {
    "supported": "#0f6e5c",
    "contradicted": "#b23a10",
    "undecided": "#7a5c00",
    "not applicable": "#5b6472",
}
ICONS = {"supported": "✓", "contradicted": "✕", "undecided": "?", "not applicable": "–"}

ROLES = ("teacher", "baseline", "student", "control", "reference")
DASH = {"control": 1, "reference": 2}  # of a figure, where the lines of others begin unbroken


def first_dash(role: str) -> int:
    """The dash of the first line in a colour: controls are broken, also where colours fail."""
    return DASH.get(role, 0)


class Colours:
    """The colour names of one study: an arm keeps its tone over all figures."""

    def __init__(self, study: Results | Iterable[tuple[str, str]]) -> None:
        """Of a study's runs, or of the (role, arm) of networks where no study is at hand."""
        if isinstance(study, Results):
            study = [(run.role, run.arm) for run in study.study.runs]
        self._arms: dict[str, list[str]] = {}
        for role, arm in study:
            arms = self._arms.setdefault(role, [])
            if arm not in arms:
                arms.append(arm)

    def of(self, role: str, name: str, place: int = 0) -> str:
        """The colour name, such as ``student-1``, of the network or arm called `name`.

        `place` decides where the role is not known or `name` names no arm of it.
        """
        if role not in ROLES:
            return f"other-{place % 2}"
        arms = self._arms.get(role, [])
        named = [arm for arm in arms if name.startswith(arm)]
        tone = arms.index(max(named, key=len)) if named else place
        tones = sum(key.startswith(role) for key in PRINT)
        return f"{role}-{tone % tones}"
