"""What did the students learn, in one screen?  The templates lay out `headline.py` above this."""

from kdprobe.panels import Panel
from kdprobe.report.sections.contract import section
from kdprobe.results import Results


@section("summary", title="Summary", place=0)
def summary(results: Results) -> list[Panel]:
    """Nothing beside the headline: the first screen has no room for more."""
    return []
