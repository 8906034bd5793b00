"""What does validation choose?  The best epoch, when to stop, and which of several networks.

All of it is read off the lines of metrics.jsonl, so that resuming chooses as before. The test set
has no say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Lines = Sequence[Mapping[str, Any]]
STATES = ("kept", "rounds")  # how far a network is pruned, and whether it is rounded


def best_epoch(lines: Lines) -> int | None:
    """The epoch of the highest validation accuracy; of equals the first. None without validation.

    The start, before training, is never the best; nor is what was pruned less than the last line's
    network, or not yet rounded: that is another network.
    """
    known = [
        line
        for line in lines
        if line["epoch"] > 0 and line.get("validation_accuracy") is not None
        if all(line.get(state) == lines[-1].get(state) for state in STATES)
    ]
    if not known:
        return None
    return int(max(known, key=lambda line: (line["validation_accuracy"], -line["epoch"]))["epoch"])


def has_stopped(lines: Lines, patience: int | None) -> bool:
    """Whether the validation loss has not become lower for `patience` epochs."""
    if patience is None:
        return False
    losses = [line["validation_loss"] for line in lines if line["epoch"] > 0]
    if not losses:
        return False
    best = losses.index(min(losses))
    return len(losses) - 1 - best >= patience


def chosen(runs: Sequence[Lines]) -> int:
    """Which of several networks is reported: highest accuracy of validation at the last epoch."""
    last = [lines[-1].get("validation_accuracy") or 0.0 for lines in runs]
    return last.index(max(last))
