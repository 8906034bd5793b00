"""What can go wrong, and with which exit code a command then ends.

A message says what was found, what was wanted, and what to do.
"""

OK, GATE_FAILED, USAGE, INPUT, PARTIAL, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130


class KdprobeError(Exception):
    """Base of every error that a user can mend."""

    exit_code = INPUT


class UsageError(KdprobeError):
    """The command or call asks for something that does not exist."""

    exit_code = USAGE


class UnknownName(UsageError):
    """A name is not in its catalogue."""


class RecipeError(UsageError):
    """A recipe has one or more faults; all of them are in the message."""


class InputError(KdprobeError):
    """A file or data set is missing, broken, or not what the study says it is."""


class OutputError(KdprobeError):
    """A result cannot be written."""


class PaperError(OutputError):
    """The PDF cannot be set; all other files are whole."""

    exit_code = PARTIAL


class NotApplicable(Exception):
    """A measure has no meaning here; `reason` becomes a sentence on the page."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Refused(NotApplicable):
    """A look could not be taken, although it was asked for: what rests on it is left out."""
