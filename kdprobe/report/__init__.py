"""The only room that draws.  Results in; one page, one PDF and tables out; no network is run."""

from pathlib import Path

from kdprobe.files import write_whole
from kdprobe.report.tables import write_tables
from kdprobe.results import Results

__all__ = ["write_report", "write_tables"]


def write_report(
    results: Results, folder: Path, *, html: bool = True, pdf: bool = True
) -> tuple[Path, ...]:
    """Write ``report.html`` and ``report.pdf`` into `folder`, which is made when it is missing.

    Returns:
        The files that were written, in the order above.

    Raises:
        OutputError: a file cannot be written; an older file of that name is then still whole.
        PaperError: the PDF alone cannot be set.
    """
    written = []
    if html:
        from kdprobe.report.html import page  # only who draws pays for the drawing libraries

        written.append(write_whole(folder / "report.html", page(results).encode("utf-8")))
    if pdf:
        from kdprobe.report.pdf import pdf as paper

        written.append(write_whole(folder / "report.pdf", paper(results)))
    return tuple(written)
