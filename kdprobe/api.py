"""The main job as one call: a study folder in, results and report out."""

import itertools
import json
import logging
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdprobe.analysis import Plan, concluded, perform, plan
from kdprobe.answering import Question
from kdprobe.executors.contract import Task
from kdprobe.files import told, write_whole
from kdprobe.passes import metered
from kdprobe.provenance import provenance_of
from kdprobe.report import write_report, write_tables
from kdprobe.request import Request, with_estimator
from kdprobe.results import Results
from kdprobe.store import Store
from kdprobe.study import Study, load_study

log = logging.getLogger("kdprobe")


@dataclass(frozen=True)
class Step:
    """How far an analysis is."""

    what: str
    done: int
    total: int


Progress = Callable[[Step], None]


def analyze(
    study: str | Path | Study,
    *,
    out: str | Path | None = None,
    metrics: Sequence[str] = (),
    layers: Sequence[str] = (),
    images: int = 128,
    estimator: str | None = None,
    device: str = "auto",
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    allow_code: Sequence[str] = (),
    report: bool = True,
    progress: Progress | None = None,
) -> Results:
    """Analyse a study and write results.json, tables, report.html, report.pdf and run.log.

    Args:
        study: a study's folder, or a loaded study.
        out: where to write; default ``reports/<the study's name>``. What was seen is kept in its
            folder ``store``: stopped and started again, nothing is computed twice.
        metrics: which; default all.
        layers: taps or module paths where concepts are looked for; default the last stage, the
            pooled features and the logits.
        images: size of the sample for concepts.
        estimator: of concepts: ``jacobian`` (the closed form; default), ``fit`` (converged), or
            ``paper`` (the released code's procedure). See `kdprobe.metrics.scope.Discarding`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: of the sample of images, and of all random probes and directions.
        settings: ``{metric: {setting: value}}``; ``discarding`` for all concept metrics.
        allow_code: modules named by the study's manifest whose code may be run.
        report: whether to write the pages too.
        progress: called before and after every look, and before every metric is reckoned.

    Raises:
        UsageError, InputError, OutputError: see `kdprobe.errors`.
    """
    request = Request(
        metrics=tuple(metrics),
        layers=tuple(layers),
        images=images,
        device=device,
        seed=seed,
        settings=with_estimator(settings or {}, estimator),
        allowed=frozenset(allow_code),
    )
    loaded = study if isinstance(study, Study) else load_study(study)
    folder = output_folder(loaded, out)
    store = Store(folder / "store")
    planned = plan(loaded, request, store.folder)  # a fault of the request leaves nothing behind
    with logged(folder / "run.log"):
        return _carry_out(planned, store, folder, report, progress or _silent)


def output_folder(study: Study, out: str | Path | None) -> Path:
    """Where the analysis of `study` is written."""
    if out is not None:
        return Path(out)
    safe = "".join(c if c.isalnum() or c in "-_. " else "_" for c in study.name).strip(". ")
    return Path("reports") / (safe or "study")


def _silent(step: Step) -> None:
    pass


def _carry_out(
    planned: Plan, store: Store, folder: Path, report: bool, progress: Progress
) -> Results:
    start = time.monotonic()
    with metered() as passes:
        _see(planned, store, progress)
    provenance = provenance_of(planned, command_of(planned))
    results = concluded(planned, store, provenance, _counted(planned, progress))
    write_whole(folder / "results.json", results.to_json().encode())
    write_tables(results, folder)
    if report:
        progress(Step("writing the report", 1, 1))
        write_report(results, folder)
    seconds = time.monotonic() - start
    log.info("finished in %.1f s%s", seconds, _compared(seconds, passes.seconds))
    return results


def _compared(seconds: float, passes: float) -> str:
    """What the whole cost beside the networks' passes; nothing where the store had all of them."""
    if passes == 0:
        return ""
    return f": {seconds / passes:.2f} × the {passes:.1f} s of forward and backward passes"


def _see(planned: Plan, store: Store, progress: Progress) -> None:
    waiting = planned.missing(store)
    total, done = len(planned.looks), len(planned.looks) - len(waiting)
    log.info("%d looks planned, %d of them in the store", total, done)
    if waiting:
        progress(Step(waiting[0].sight.title, done, total))

    def count(task: Task) -> None:
        nonlocal done
        done += 1
        log.info("%d/%d %s", done, total, task.sight.title)
        progress(Step(task.sight.title, done, total))

    perform(planned, store, count)


def _counted(planned: Plan, progress: Progress) -> Callable[[Question], None]:
    """Tells which metric is being reckoned, and how many are done."""
    done = itertools.count()

    def begun(question: Question) -> None:
        what = f"reckoning {question.metric.title}"
        progress(Step(what, next(done), len(planned.questions)))

    return begun


def command_of(planned: Plan) -> str:
    """The command that makes the same results, every choice spelled out; STUDY is the folder."""
    request, scope = planned.request, planned.scope
    words = ["kdprobe", "analyze", "STUDY"]
    if request.metrics:
        words += ["--metrics", ",".join(request.metrics)]
    words += ["--layers", ",".join(scope.layers), "--images", str(scope.images)]
    words += ["--device", str(planned.device), "--seed", str(scope.seed)]
    for metric, changes in request.settings.items():
        for name, value in changes.items():
            words += ["--set", f"{metric}.{name}={json.dumps(value)}"]
    for module in sorted(request.allowed):
        words += ["--allow-code", module]
    return shlex.join(words)


class LogFile(logging.FileHandler):
    """A log that a full disk does not fill the screen about: the results' own files tell of it."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Append what kdprobe logs to `file`, with times."""
    with told(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        log.error("stopped by %s: %s", type(error).__name__, error)
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        with suppress(OSError):
            handler.close()
