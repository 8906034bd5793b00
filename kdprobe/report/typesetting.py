"""How does typst run?  In another process, so that its memory and its faults stay there."""

import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from kdprobe.errors import PaperError

PATIENCE = 600  # seconds
TOLD = 300  # letters of a fault

log = logging.getLogger("kdprobe")


def font_folder() -> Path:
    """The folder of the fonts that matplotlib brings along."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise PaperError(
            "found no matplotlib, whose fonts the PDF is set in; "
            "run 'pip install matplotlib', or write the page alone with --no-pdf"
        )
    return Path(found.origin).with_name("mpl-data") / "fonts" / "ttf"


def typeset(folder: Path) -> bytes:
    """The PDF of ``report.typ`` in `folder`, which holds all it reads: equal bytes every time.

    Raises:
        PaperError: typst found a fault, was stopped, or took more than `PATIENCE`.
    """
    script = Path(__file__).with_name("typesetter.py")
    command = [sys.executable, "-P", str(script), str(folder), str(font_folder())]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"typst timed out after {PATIENCE:g} seconds") from error
    except OSError as error:
        raise _failed(str(error)) from error
    told = ended.stderr.decode("utf-8", "replace").strip()
    if ended.returncode:
        by_signal = f"typst was stopped by signal {-ended.returncode}"
        raise _failed(by_signal if ended.returncode < 0 else told or f"exit {ended.returncode}")
    if told:
        log.info("the PDF is tagged, but does not meet PDF/UA-1: %s", told[:TOLD])
    return (folder / "report.pdf").read_bytes()


def _failed(why: str) -> PaperError:
    return PaperError(
        f"the PDF could not be set: {why[:TOLD]}; all other files are whole: "
        "run 'kdprobe report' to try again, or with --no-pdf to do without"
    )
