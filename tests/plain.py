"""Records made by hand, with the least that they need."""

from typing import Any

from kdprobe.results import MetricReport


def metric_report(key: str, **facts: Any) -> MetricReport:
    """A measured metric, of which `facts` say what matters to the test."""
    plain: dict[str, Any] = {"title": key, "question": "?", "definition": "", "source": ""}
    plain |= {"better": "neither", "settings": {}, "status": "measured"}
    return MetricReport(key=key, **{**plain, **facts})
