"""Which colours has the page, by day and by night?  One table of each, written as CSS variables.

On paper it is always day. The tones of networks are told apart under every kind of colour
blindness (`tests/report/test_colours.py`), and lines differ in dash as well.
"""

from kdprobe.report.colours import OUTCOME_PRINT, PRINT

LIGHT = {
    "paper": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#1c2430",
    "muted": "#566173",
    "rule": "#dfe3ea",
    "soft": "#eef1f5",
    "link": "#0b5fa5",
    "missing": "#eceff3",
    "contour": "rgba(20, 30, 45, 0.35)",
    "plain": "#566173",
    **{outcome.replace(" ", "-"): tone for outcome, tone in OUTCOME_PRINT.items()},
    "supported-soft": "#dcf1ec",
    "contradicted-soft": "#fbe5dc",
    "undecided-soft": "#f7edcf",
    "not-applicable-soft": "#e8ebf0",
    **PRINT,
    "heat-0": "#f4f7fa",
    "heat-1": "#bcd5e8",
    "heat-2": "#74a9cf",
    "heat-3": "#2b7bb3",
    "heat-4": "#0a4373",
}
DARK = {
    "paper": "#12161d",
    "card": "#1a2029",
    "ink": "#e6eaf0",
    "muted": "#9aa6b6",
    "rule": "#2c3542",
    "soft": "#232b36",
    "link": "#6cb4f2",
    "missing": "#222a35",
    "contour": "rgba(230, 238, 248, 0.3)",
    "plain": "#9aa6b6",
    "supported": "#5fd0b5",
    "contradicted": "#ff9468",
    "undecided": "#e5c15a",
    "not-applicable": "#a9b3c1",
    "supported-soft": "#173a35",
    "contradicted-soft": "#46261b",
    "undecided-soft": "#3c331a",
    "not-applicable-soft": "#2c3441",
    "teacher-0": "#5cadee",
    "teacher-1": "#b3d6fd",
    "baseline-0": "#a19a90",
    "baseline-1": "#726a62",
    "student-0": "#ff8747",
    "student-1": "#fcda55",
    "student-2": "#f591c8",
    "student-3": "#c39a6b",
    "control-0": "#a548f5",
    "control-1": "#e6ff9e",
    "control-2": "#5ff0b8",
    "reference-0": "#6f8191",
    "other-0": "#95f0de",
    "other-1": "#6783df",
    "heat-0": "#1c2531",
    "heat-1": "#1f4667",
    "heat-2": "#2b74a6",
    "heat-3": "#64a9d6",
    "heat-4": "#cfe6f5",
}
BAND = "24"  # opacity, in hexadecimal, of the band around a line


def css() -> str:
    """The variables of both themes: by the system's wish, and by the switch of the page."""
    light, dark = _rules("light", LIGHT), _rules("dark", DARK)
    night = f':root:not([data-theme="light"]) {{ {dark} }}'
    wished = f"@media (prefers-color-scheme: dark) {{ {night} }}"
    return (
        f":root {{ {light} }}\n@media screen {{\n{wished}\n"
        f':root[data-theme="dark"] {{ {dark} }}\n}}\n'
    )


def _rules(scheme: str, tones: dict[str, str]) -> str:
    bands = {f"{name}-band": f"{tones[name]}{BAND}" for name in PRINT}
    told = [f"--{name}: {tone};" for name, tone in {**tones, **bands}.items()]
    return " ".join([f"color-scheme: {scheme};", *told])
