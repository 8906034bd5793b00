"""Where do the numbers come from?  Enough to run the same analysis again."""

import json

from kdprobe.panels import Panel, Table
from kdprobe.report.sections.contract import section
from kdprobe.results import Results


@section("provenance", title="How this was measured", place=90)
def provenance(results: Results) -> list[Panel]:
    """The facts of the analysis, and the settings of every metric."""
    study = results.study
    facts = (
        ("study", study.name),
        ("data set", f"{study.dataset}, {len(study.classes)} classes"),
        ("kdprobe", results.kdprobe_version),
        *((name, value) for name, value in results.provenance.items() if name != "kdprobe"),
    )
    settings = tuple(
        (metric.title, name, json.dumps(value, ensure_ascii=False))
        for metric in results.metrics
        for name, value in metric.settings.items()
    )
    panels: list[Panel] = [
        Table(title="Provenance", columns=("what", "value"), rows=facts, name="provenance")
    ]
    if settings:
        panels.append(
            Table(
                title="Settings of the metrics",
                columns=("metric", "setting", "value"),
                rows=settings,
                name="settings",
            )
        )
    return panels
