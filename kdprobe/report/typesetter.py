"""What runs typst?  This script alone, in a process of its own: ``typesetter.py FOLDER FONTS``.

It makes ``report.pdf`` of ``report.typ`` in FOLDER. It knows nothing of kdprobe, so that it starts
fast. What it writes to stderr is one sentence: of a failure, or of the standard that was not met.
"""

import sys
from pathlib import Path
from typing import Literal

import typst

EPOCH = 0  # seconds; the date that typst writes into the file
STANDARD: Literal["ua-1"] = "ua-1"  # for readers who cannot see


def typeset(folder: Path, fonts: Path) -> str:
    """Write ``report.pdf``; say why it does not meet `STANDARD` where it does not."""
    try:
        _compile(folder, fonts, STANDARD)
    except typst.TypstError as error:
        _compile(folder, fonts, None)
        return str(error).strip().partition("\n")[0]
    return ""


def _compile(folder: Path, fonts: Path, standard: Literal["ua-1"] | None) -> None:
    typst.compile(
        folder / "report.typ",
        output=folder / "report.pdf",
        root=folder,
        font_paths=[fonts],
        ignore_system_fonts=True,
        timestamp=EPOCH,
        format="pdf",
        pdf_standards=standard,
    )


if __name__ == "__main__":
    try:
        print(typeset(*map(Path, sys.argv[1:])), file=sys.stderr, end="")
    except Exception as error:  # one sentence instead of a traceback
        sys.exit(str(error) or type(error).__name__)
