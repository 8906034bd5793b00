"""What became of every question?  Answers from what was seen, and what had to be left out.

A look that could not be taken leaves a reason in the store; only what rests on it is left out.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdprobe.errors import InputError, NotApplicable, Refused
from kdprobe.executors.contract import Task
from kdprobe.executors.contract import perform as see
from kdprobe.metrics.contract import Array, Inquiry, Lacking, Metric, Result, Telling, conclude
from kdprobe.probes.contract import Sight
from kdprobe.results import Problem
from kdprobe.store import Store

log = logging.getLogger("kdprobe")

KEPT_IN_MEMORY = 1 << 29  # bytes of what was read from the store


@dataclass
class Question:
    """One metric on its way: not applicable from the start, or waiting for its sights."""

    metric: Metric
    settings: dict[str, Any]
    inquiry: Inquiry[Result] | None
    sights: list[Sight]
    reason: str = ""


class Sightings(Mapping[Sight, Mapping[str, Array]]):
    """What was seen, read from the store when it is asked for.

    Asked for a look that could not be taken, it raises `Refused`.
    """

    def __init__(self, tasks: Mapping[Sight, Task], store: Store) -> None:
        self._tasks, self._store = tasks, store
        self._read: dict[Sight, Mapping[str, Array]] = {}  # the last ones that were asked for

    def __getitem__(self, wanted: Sight) -> Mapping[str, Array]:
        if wanted not in self._read:
            task = self._tasks[wanted]
            found = self._store.get(task.key)
            if found is None and self._store.refused(task.key):
                raise Refused(f"{wanted.title}: {self._store.refused(task.key)}")
            if found is None:  # it was damaged, and the store has deleted it
                log.warning("the store's entry of '%s' was damaged; looking again", wanted.title)
                see(task)
                found = self._store.get(task.key)
            if found is None:
                raise InputError(
                    f"the store lost '{wanted.title}' while it was being read; "
                    "run the same command again"
                )
            self._read[wanted] = found
            while len(self._read) > 1 and self._size() > KEPT_IN_MEMORY:
                self._read.pop(next(iter(self._read)))
        return self._read[wanted]

    def _size(self) -> int:
        return sum(array.nbytes for found in self._read.values() for array in found.values())

    def __iter__(self) -> Iterator[Sight]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


@dataclass
class Answer:
    """What became of a question: a result, or the reason why there is none."""

    question: Question
    result: Result | None
    reason: str = ""
    left_out: tuple[str, ...] = ()  # what was asked for and could not be seen


def answer_to(question: Question, seen: Mapping[Sight, Mapping[str, Array]]) -> Answer:
    if question.inquiry is None:
        return Answer(question, None, question.reason)
    try:
        result = conclude(question.inquiry, seen)
    except (Refused, InputError) as answer:
        return Answer(question, None, str(answer), (str(answer),))
    except NotApplicable as answer:
        return Answer(question, None, answer.reason)
    lacks = tuple(result.lacking()) if isinstance(result, Lacking) else ()
    return Answer(question, result, left_out=lacks)


def must_have_results(answers: Sequence[Answer]) -> None:
    """Raise InputError when nothing at all could be seen of what was asked for."""
    failed = [answer for answer in answers if answer.left_out]
    if failed and not any(answer.result for answer in answers):
        raise InputError(failed[0].reason)


def findings(answers: Sequence[Answer]) -> list[Problem]:
    """What the metrics have to say, and what they had to leave out; the same thing once."""
    found: list[Problem] = []
    for answer in answers:
        title = answer.question.metric.title
        if isinstance(answer.result, Telling):
            found += [Problem(subject=title, what=told) for told in answer.result.findings()]
    lost: dict[str, list[str]] = {}
    for answer in answers:
        for what in answer.left_out:
            lost.setdefault(what, []).append(answer.question.metric.title)
    for what, titles in lost.items():
        found.append(Problem(subject=", ".join(titles), what=what, left_out=True))
    return found
