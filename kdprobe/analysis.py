"""From a study to results.json: plan the looks, have them done, reckon, judge.

check     every checkpoint is read once: broken files stop, NaN weights are named and left out
plan      every metric says what it needs to see; equal sights are seen once
perform   an executor fills the store; what the store has is not seen again
conclude  the metrics reckon from the store, the claims judge the metrics
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kdprobe.answering import (
    Answer,
    Question,
    Sightings,
    answer_to,
    findings,
    must_have_results,
)
from kdprobe.claims.contract import judge
from kdprobe.device import choose_device
from kdprobe.errors import NotApplicable
from kdprobe.executors.contract import EXECUTORS, Task
from kdprobe.loading import build, code_digest
from kdprobe.metrics.contract import (
    METRICS,
    Metric,
    as_values,
)
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import Sight
from kdprobe.probes.lens import test_images
from kdprobe.request import Request, chosen_metrics, scope_of
from kdprobe.results import MetricReport, Problem, Results, RunSummary, StudySummary
from kdprobe.soundness import check, of_these_classes
from kdprobe.store import Store, digest_of
from kdprobe.study import Run, Study

log = logging.getLogger("kdprobe")


@dataclass
class Plan:
    """All that is to be done for one study."""

    study: Study
    request: Request
    scope: Scope
    device: torch.device
    problems: tuple[Problem, ...]
    questions: list[Question]
    tasks: dict[Sight, Task]
    images_digest: str

    @property
    def looks(self) -> list[Task]:
        """What has to be seen, in the order of the plan; equal content is seen once."""
        return list({task.key: task for task in reversed(self.tasks.values())}.values())[::-1]

    def missing(self, store: Store) -> list[Task]:
        """The looks that the store does not have."""
        return [task for task in self.looks if task.key not in store]


def plan(study: Study, request: Request, store: Path) -> Plan:
    """Check the study and list all that has to be seen.

    Raises:
        UsageError: a metric, setting, device or executor is unknown.
        InputError: a checkpoint is broken or fits no network, a layer is unknown, or the networks
            have other classes than the data.
    """
    chosen = chosen_metrics(request)
    device = choose_device(request.device)
    EXECUTORS[request.executor]
    sound, problems = check(study, request.allowed)
    images = test_images(sound.data, request.allowed)
    sound, others = of_these_classes(sound, images.classes)
    problems = (*problems, *others)
    scope = scope_of(sound, request, images)
    questions = [_question(metric, settings, sound, scope) for metric, settings in chosen]
    digest = digest_of([images.digest(), request.seed])
    around = {"seed": request.seed, "on": device.type, "torch": torch.__version__}
    around["code"] = code_digest(sound, request.allowed)
    tasks = {}
    for wanted in (sight for question in questions for sight in question.sights):
        described = {"sight": wanted.described(digest), **around}
        tasks[wanted] = Task(
            key=digest_of(described),
            sight=wanted,
            data=sound.data,
            seed=request.seed,
            device=str(device),
            store=store,
            allowed=request.allowed,
        )
    return Plan(sound, request, scope, device, problems, questions, tasks, digest)


def perform(planned: Plan, store: Store, done: Callable[[Task], None]) -> None:
    """See all that the store lacks; `done` is called after every task."""
    EXECUTORS[planned.request.executor](planned.missing(store), done)


def concluded(
    planned: Plan,
    store: Store,
    provenance: Mapping[str, str],
    begun: Callable[[Question], None],
) -> Results:
    """Reckon and judge from a store that has everything; what is drawn is what is written.

    `begun` is called before every question that is answered.
    """
    seen = Sightings(planned.tasks, store)
    answers = []
    for question in planned.questions:
        begun(question)
        answers.append(answer_to(question, seen))
    must_have_results(answers)
    reports = [_report(answer) for answer in answers]
    found = Results(
        kdprobe_version=version("kdprobe"),
        study=_summary(planned),
        metrics=tuple(sorted(reports, key=lambda report: METRICS[report.key].place)),
        problems=(*planned.problems, *findings(answers)),
        provenance=dict(provenance),
    ).settled()
    return found.model_copy(update={"verdicts": tuple(judge(found))}).settled()


def _question(metric: Metric, settings: dict[str, Any], study: Study, scope: Scope) -> Question:
    inquiry = metric.ask(study, scope, **settings)
    try:
        return Question(metric, settings, inquiry, next(inquiry))
    except NotApplicable as answer:
        return Question(metric, settings, None, [], answer.reason)


def _report(answer: Answer) -> MetricReport:
    metric, result = answer.question.metric, answer.result
    return MetricReport(
        key=metric.key,
        title=metric.title,
        part=metric.part,
        question=metric.question,
        definition=metric.definition,
        source=metric.source,
        better=metric.better,
        settings={name: _json(value) for name, value in answer.question.settings.items()},
        status="not applicable" if result is None else "measured",
        reason=answer.reason,
        values={} if result is None else as_values(result),
        panels=() if result is None else tuple(result.panels()),
    )


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _summary(planned: Plan) -> StudySummary:
    study = planned.study
    return StudySummary(
        name=study.name,
        dataset=planned.scope.dataset,
        classes=planned.scope.classes,
        runs=tuple(_run_summary(planned, run) for run in study.runs),
    )


def _run_summary(planned: Plan, run: Run) -> RunSummary:
    last, body = planned.study.final(run), build(run.last.network, planned.request.allowed).body
    return RunSummary(
        id=run.id,
        role=run.role,
        arm=run.arm,
        seed=run.seed,
        model=last.network.label,
        parameters=sum(p.numel() for p in body.parameters()),
        epochs=run.epochs,
        digest=last.digest,
    )
