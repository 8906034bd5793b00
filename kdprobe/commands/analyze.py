"""`kdprobe analyze`: plan or run an analysis, then print the verdicts and where the report is."""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kdprobe.analysis import Plan, plan
from kdprobe.api import Step, output_folder
from kdprobe.api import analyze as analyze_study
from kdprobe.commands.progress import progress
from kdprobe.commands.tables import print_json, print_table
from kdprobe.commands.verify import verdict_columns, verdict_rows
from kdprobe.errors import UsageError
from kdprobe.report.tracking import library, log_results
from kdprobe.request import Request, with_estimator
from kdprobe.results import Results
from kdprobe.store import Store
from kdprobe.study import load_study


@dataclass(frozen=True)
class Ended:
    """How an analysis ended."""

    partial: bool  # part of the study could not be analysed


def parsed_settings(changes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``metric.setting=value`` -> nested settings; the value is TOML, or else a word.

    Raises:
        UsageError: a change is not of this form.
    """
    found: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        metric, dot, name = path.strip().partition(".")
        if not (equals and dot and metric and name):
            raise UsageError(f"found --set {change!r}; wanted METRIC.SETTING=VALUE")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        found.setdefault(metric, {})[name] = tuple(value) if isinstance(value, list) else value
    return found


def analyze(
    study: Path,
    out: Path | None,
    *,
    metrics: tuple[str, ...],
    layers: tuple[str, ...],
    settings: Mapping[str, Mapping[str, Any]],
    allow_code: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    images: int,
    estimator: str | None,
    device: str,
    seed: int,
    log_to: str | None = None,
) -> Ended:
    """Run the analysis, or show its plan."""
    if log_to:
        library(log_to)  # a fault of the request is told before the work
    loaded = load_study(study)
    settings = with_estimator(settings, estimator)
    folder = output_folder(loaded, out)
    if dry_run:
        allowed = frozenset(allow_code)
        request = Request(metrics, layers, images, device, seed, settings, allowed)
        _show_plan(plan(loaded, request, folder / "store"), Store(folder / "store"), as_json)
        return Ended(partial=False)
    with progress(quiet) as told:
        results = analyze_study(
            loaded,
            out=folder,
            metrics=metrics,
            layers=layers,
            images=images,
            device=device,
            seed=seed,
            settings=settings,
            allow_code=allow_code,
            progress=lambda step: _tell(told, step),
        )
    if log_to:
        log_results(results, folder, log_to)
    _show(results, folder, as_json, quiet)
    return Ended(partial=any(problem.left_out for problem in results.problems))


def _tell(told: Any, step: Step) -> None:
    told(step.what, step.done, step.total)


def _show_plan(planned: Plan, store: Store, as_json: bool) -> None:
    probes = Counter(task.sight.probe for task in planned.looks)
    waiting = Counter(task.sight.probe for task in planned.missing(store))
    if as_json:
        print_json(
            {
                "looks": [
                    {"what": task.sight.title, "key": task.key, "stored": task.key in store}
                    for task in planned.looks
                ],
                "not applicable": {q.metric.key: q.reason for q in planned.questions if q.reason},
            }
        )
        return
    rows = [(probe, count, count - waiting[probe]) for probe, count in sorted(probes.items())]
    rows.append(("all", sum(probes.values()), sum(probes.values()) - sum(waiting.values())))
    print_table(f"Plan for {planned.study.name}", ("probe", "looks", "in the store"), rows)
    for question in planned.questions:
        if question.reason:
            click.echo(f"{question.metric.key}: not applicable: {question.reason}")


def _show(results: Results, folder: Path, as_json: bool, quiet: bool) -> None:
    files = {name: str(folder / name) for name in ("report.html", "report.pdf", "results.json")}
    if as_json:
        print_json(
            {
                "files": files,
                "verdicts": [verdict.model_dump(mode="json") for verdict in results.verdicts],
                "problems": [problem.model_dump(mode="json") for problem in results.problems],
            }
        )
        return
    print_table("Hypotheses", verdict_columns(results), verdict_rows(results))
    told = [problem for problem in results.problems if problem.left_out or not quiet]
    for problem in told:
        click.echo(f"note: {problem.subject}: {problem.what}", err=True)
    for file in files.values():
        click.echo(file)
