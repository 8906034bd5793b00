"""Names and the label that all made-up metrics share."""

from kdprobe.panels import Panel
from kdprobe.results import MetricReport

LAYERS = ("stage2", "stage3", "logits")
EPOCHS = (0, 1, 2, 4, 6, 8, 10, 12)
ARMS = (("baseline", "baseline"), ("kd", "student"), ("feature", "student"))


def labelled(
    key: str, title: str, question: str, panels: list[Panel], **facts: object
) -> MetricReport:
    """A metric with the usual label; `facts` say what differs."""
    return MetricReport.model_validate(
        {
            "key": key,
            "title": title,
            "question": question,
            "definition": "",
            "source": "",
            "better": "neither",
            "settings": {},
            "status": "measured",
            "panels": panels,
            **facts,
        }
    )
