"""One process, one task after another: torch itself uses all cores or the GPU."""

from collections.abc import Sequence

from kdprobe.executors.contract import EXECUTORS, Done, Task, perform


def local(tasks: Sequence[Task], done: Done) -> None:
    """Perform `tasks` in order, here."""
    for task in tasks:
        perform(task)
        done(task)


EXECUTORS.add("local", local)
