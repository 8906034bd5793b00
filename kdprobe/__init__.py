"""kdprobe: what did the student really learn from the teacher?

    import kdprobe
    results = kdprobe.analyze("checkpoints/demo")
    for verdict in kdprobe.verify(results):
        print(verdict.claim, verdict.arm, verdict.layer, verdict.outcome)

Names are loaded when they are used, so that ``import kdprobe`` is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdprobe.api import analyze
    from kdprobe.auditing import audit
    from kdprobe.claims.contract import judge as verify
    from kdprobe.comparing.comparison import compare
    from kdprobe.explaining import explain
    from kdprobe.report import write_report
    from kdprobe.results import read_results
    from kdprobe.study import load_study
    from kdprobe.train.loop import train as train_study

_PLACES = {
    "analyze": ("kdprobe.api", "analyze"),
    "audit": ("kdprobe.auditing", "audit"),
    "compare": ("kdprobe.comparing.comparison", "compare"),
    "explain": ("kdprobe.explaining", "explain"),
    "verify": ("kdprobe.claims.contract", "judge"),
    "write_report": ("kdprobe.report", "write_report"),
    "read_results": ("kdprobe.results", "read_results"),
    "load_study": ("kdprobe.study", "load_study"),
    "train_study": ("kdprobe.train.loop", "train"),
}

__all__ = [
    "analyze",
    "audit",
    "compare",
    "explain",
    "load_study",
    "read_results",
    "train_study",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'kdprobe' has no attribute {name!r}")
