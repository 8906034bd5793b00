"""How far is it?  A bar on a terminal, a line now and then where the output is piped."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

HEARTBEAT = 10.0  # seconds between two lines

Told = Callable[[str, int, int], None]  # what, done, total


@contextmanager
def progress(quiet: bool) -> Iterator[Told]:
    """Lend a function that shows how far a long work is, and what it warns of, on stderr."""
    if quiet:
        yield lambda what, done, total: None
    elif sys.stderr.isatty():
        with _bar() as told, _warnings():
            yield told
    else:
        with _warnings():
            yield _heartbeat()


class _Warnings(logging.Handler):
    """Warnings of a long work, such as smaller batches for want of memory, as talk."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.WARNING:  # an error is told by the command itself
            return
        click.echo(f"warning: {record.getMessage()}", err=True)


@contextmanager
def _warnings() -> Iterator[None]:
    log, talk = logging.getLogger("kdprobe"), _Warnings(logging.WARNING)
    log.addHandler(talk)
    try:
        yield
    finally:
        log.removeHandler(talk)


@contextmanager
def _bar() -> Iterator[Told]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("", total=None, what="")

        def told(what: str, done: int, total: int) -> None:
            bar.update(line, completed=done, total=total, what=what)

        yield told


def _heartbeat() -> Told:
    start = last = time.monotonic()

    def told(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= HEARTBEAT or done == total:
            last = now
            click.echo(f"[{now - start:5.0f} s] {done}/{total} {what}", err=True)

    return told
