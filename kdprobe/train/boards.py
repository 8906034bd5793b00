"""Where TensorBoard looks: the numbers of metrics.jsonl once more, in event files.

The lines stay the truth; these files are for watching. They need the extra ``tensorboard``.
A training that goes on writes all lines so far again, and old files go: TensorBoard reads files in
the order of their names, whose times may be equal.

Source: the event format of TensorBoard, by `torch.utils.tensorboard`.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdprobe.errors import UsageError

FOLDER = "tensorboard"  # in a run's folder


class Board:
    """The event files of one run."""

    def __init__(self, folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
        """Begin with the lines that count; what an interrupted training wrote beyond them goes.

        Raises:
            UsageError: the extra is not installed.
        """
        writer = summary_writer()
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        self._writer = writer(str(folder / FOLDER), purge_step=0)  # a watcher drops what it knew
        for line in lines:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        """Write a line of metrics.jsonl, each number under its key, at its epoch."""
        for key, value in numbers(line):
            self._writer.add_scalar(key, value, line["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Let go of the file."""
        self._writer.close()


def summary_writer() -> Callable[..., Any]:
    """What writes event files.

    Raises:
        UsageError: the extra is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "found no TensorBoard, which --tensorboard writes for; install it by "
            "'pip install kdprobe[tensorboard]', or leave the option out"
        ) from error
    writer: Callable[..., Any] = SummaryWriter
    return writer


def numbers(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a line, with the keys of the tables around it: ``terms/kd(T=4)/raw``."""
    for key, value in line.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and key != "epoch":
            yield f"{prefix}{key}", float(value)
