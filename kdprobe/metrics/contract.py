"""What a metric is: a question to a study, answered by numbers, and the label a page needs.

A metric is a generator function: it yields once the sights that it needs, is sent what was seen,
and returns its result. So the whole work is known, shared and resumed before a network is run, and
the reckoning itself is plain arithmetic without torch:

    @metric("cka", title=..., ...)
    def cka(study: Study, scope: Scope, *, batch: int = 128) -> Inquiry[Similarity]:
        seen = yield [sight("hsic", ...)]
        return Similarity(...)

Keyword-only arguments are the metric's settings (``--set cka.batch=256``).
"""

import dataclasses
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.settings import must_be_like
from kdprobe.panels import Panel, Series
from kdprobe.probes.contract import Sight
from kdprobe.registry import Catalogue, did_you_mean
from kdprobe.study import Run, Study

Better = Literal["higher", "lower", "neither"]
Array = NDArray[Any]
Seen = Mapping[Sight, Mapping[str, Array]]


class Result(Protocol):
    """A frozen dataclass of numbers that can put itself into panels."""

    def panels(self) -> list[Panel]: ...


@runtime_checkable
class Telling(Protocol):
    """A result that may have something to say on the first screen."""

    def findings(self) -> list[str]: ...


@runtime_checkable
class Lacking(Protocol):
    """A result that may be incomplete: what could not be measured, and why, one sentence each."""

    def lacking(self) -> Sequence[str]: ...


R_co = TypeVar("R_co", bound=Result, covariant=True)
Inquiry = Generator[list[Sight], Seen, R_co]


PARTS = (  # of the page, by the first place in each
    (10, "Answers"),
    (30, "Visual concepts"),
    (60, "Features"),
    (70, "Loss landscape"),
    (80, "Attention"),
)


@dataclass(frozen=True)
class Metric:
    """A measurement and its label. `range` is a promise that the tests hold it to."""

    key: str
    title: str
    question: str
    source: str  # paper, and the equation or section that is implemented
    better: Better
    range: tuple[float, float]
    place: int  # on the page
    ask: Callable[..., Inquiry[Result]]
    ranged: tuple[str, ...] = ()  # the fields of its values that `range` is about

    @property
    def part(self) -> str:
        """The part of the page that it belongs to."""
        begun = [title for first, title in PARTS if first <= self.place]
        return begun[-1] if begun else PARTS[0][1]

    @property
    def definition(self) -> str:
        """The docstring: what is computed, in words and formulas."""
        return inspect.getdoc(self.ask) or ""

    @property
    def settings(self) -> dict[str, Any]:
        """The names and defaults of the metric's own settings."""
        parameters = inspect.signature(self.ask).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def with_defaults(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """All settings, `changes` among them. Raises UsageError for a name or kind that is off."""
        known = self.settings
        for name, value in changes.items():
            if name not in known:
                raise UsageError(
                    f"metric {self.key!r} has no setting {name!r}"
                    f"{did_you_mean(name, known) or '.'} Known: {', '.join(known) or 'none'}"
                )
            must_be_like(f"{self.key}.{name}", value, known[name])
        return known | dict(changes)


METRICS: Catalogue[Metric] = Catalogue("metric", "kdprobe.metrics")


def metric(
    key: str, **facts: Any
) -> Callable[[Callable[..., Inquiry[Any]]], Callable[..., Inquiry[Any]]]:
    """Put the function below into METRICS under `key`."""

    def add(ask: Callable[..., Inquiry[Any]]) -> Callable[..., Inquiry[Any]]:
        METRICS.add(key, Metric(key=key, ask=ask, **facts))
        return ask

    return add


def conclude(inquiry: Inquiry[Result], seen: Seen) -> Result:
    """Send what was seen into `inquiry`, whose sights were taken before, and get its result."""
    try:
        inquiry.send(seen)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise RuntimeError("a metric asks once: it yielded sights a second time")


def as_values(result: Any) -> dict[str, JsonValue]:
    """The numbers of a frozen result as JSON: arrays become lists, NaN becomes null.

    Fields declared with ``page_only()`` are for panels and stay out.
    """
    kept = [f.name for f in dataclasses.fields(result) if not f.metadata.get("page_only")]
    return {name: _plain(getattr(result, name)) for name in kept}


def page_only() -> Any:
    """A field of a result that is shown in a panel and not repeated among the values."""
    return dataclasses.field(metadata={"page_only": True})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_values(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


K = TypeVar("K")


def answered(
    seen: Seen, asked: Mapping[K, Sight]
) -> tuple[dict[K, Mapping[str, Array]], list[str]]:
    """What was seen of `asked`, and why the rest was not.

    Raises:
        Refused: nothing was.
    """
    found, reasons = {}, []
    for key, wanted in asked.items():
        try:
            found[key] = seen[wanted]
        except Refused as answer:
            reasons.append(answer.reason)
    if not found:
        raise Refused(reasons[0])
    return found, list(dict.fromkeys(reasons))


Roles = Mapping[str, tuple[str, str]]  # run -> (arm, role)


def roles_of(runs: Sequence[Run]) -> Roles:
    """Which arm and role every run has."""
    return {run.id: (run.arm, run.role) for run in runs}


def by_arm(roles: Roles, runs: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """The runs of every (arm, role), in order."""
    arms: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        arms.setdefault(roles[run], []).append(run)
    return arms


def arm_series(roles: Roles, x: ArrayLike, rows: Mapping[str, Array]) -> tuple[Series, ...]:
    """One line an arm from one row of numbers a run: mean and range over seeds."""
    return tuple(
        Series.over_seeds(arm, x, np.stack([rows[run] for run in runs]), role)
        for (arm, role), runs in by_arm(roles, rows).items()
    )


def the_teacher(study: Study) -> Run:
    """The teacher. Raises NotApplicable where the study has none."""
    if study.teacher is None:
        raise NotApplicable("needs a teacher; this study has none")
    return study.teacher


def followed(study: Study) -> tuple[Run, ...]:
    """Baselines, students and controls: the networks whose learning is compared."""
    return study.learners
