"""Do cross-entropy and distillation prefer the same networks?  Rankings by validation, and tau.

The score of a candidate under a loss is its validation accuracy after the last epoch, the mean over
seeds. Kendall's tau-b of two losses' scores over the same candidates:

    tau = (P - Q) / sqrt((P + Q + T) (P + Q + U))

with P pairs of candidates in the same order, Q in opposite order, T tied in the first only, U in
the second only. p: of no association, exact where nothing is tied and there are few candidates,
else normal. The best network is chosen on validation images; its test accuracy is told beside.

Source: Kendall 1945, doi:10.1093/biomet/33.3.239; scipy.stats.kendalltau.

Axes: m candidates, r seeds.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from kdprobe.errors import InputError
from kdprobe.manifest import RunEntry, read_manifest
from kdprobe.train.searching import parted
from kdprobe.train.settings import Search
from kdprobe.train.writing import write_json


@dataclass(frozen=True)
class Trial:
    """One trained network of a search."""

    candidate: str
    loss: str
    seed: int | None
    validation_accuracy: float
    test_accuracy: float | None  # for the record
    cost: Mapping[str, Any]  # parameters, macs, bits ...


@dataclass(frozen=True)
class Standing:
    """A candidate under one loss: means over its seeds."""

    candidate: str
    validation_accuracy: float
    test_accuracy: float | None
    seeds: int
    cost: Mapping[str, Any]


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b between the rankings of two losses."""

    first: str
    second: str
    candidates: int
    tau: float | None  # None: fewer than two candidates, or a loss that ties all of them
    p: float | None


@dataclass(frozen=True)
class Ranking:
    """All of search.json."""

    standings: Mapping[str, tuple[Standing, ...]]  # loss -> candidates, the best first
    best: Mapping[str, Standing]  # loss -> the first of them
    agreements: tuple[Agreement, ...]  # of every two losses


def ranked(folder: Path, search: Search) -> Ranking:
    """The ranking of the trained runs in a study's folder.

    Raises:
        InputError: a run is missing or still in training, a file cannot be read, or no images were
            held out for validation.
    """
    found = []
    for run in read_manifest(folder).runs:
        names = parted(run.arm, tuple(search.losses))
        if names is not None:
            found.append(_trial(folder / (run.folder or run.id), run, *names))
    count = len({trial.candidate for trial in found})
    if count != search.count:
        raise InputError(
            f"found {count} of {search.count} candidates in {folder}; wanted all of the search: go "
            "on with 'kdprobe train'"
        )
    return ranking(found, tuple(search.losses))


def write_search(folder: Path, search: Search) -> Ranking:
    """Write search.json beside the runs. Raises as `ranked`; OutputError as `write_json`."""
    found = ranked(folder, search)
    write_json(folder / "search.json", asdict(found))
    return found


def ranking(trials: Sequence[Trial], losses: Sequence[str]) -> Ranking:
    """Candidates by loss, the best first; of equals the cheaper one.

    Raises InputError where a candidate lacks a loss or a seed that others have.
    """
    _must_be_crossed(trials, losses)
    groups: dict[str, dict[str, list[Trial]]] = {loss: defaultdict(list) for loss in losses}
    for trial in trials:
        groups[trial.loss][trial.candidate].append(trial)
    standings = {
        loss: tuple(sorted(map(_standing, group.values()), key=_place))
        for loss, group in groups.items()
    }
    best = {loss: rows[0] for loss, rows in standings.items()}
    pairs = combinations(losses, 2)
    agreements = (agreement(one, two, standings[one], standings[two]) for one, two in pairs)
    return Ranking(standings, best, tuple(agreements))


def _must_be_crossed(trials: Sequence[Trial], losses: Sequence[str]) -> None:
    known = {(one.candidate, one.loss, one.seed) for one in trials}
    drawn = sorted({candidate for candidate, _, _ in known})
    seeds = sorted({seed for _, _, seed in known}, key=str)
    lacking = [
        f"{candidate}-{loss} of seed {seed}"
        for candidate in drawn
        for loss in losses
        for seed in seeds
        if (candidate, loss, seed) not in known
    ]
    if not drawn or lacking:
        raise InputError(
            f"found {len(drawn)} candidates, without {', '.join(lacking[:3]) or 'any run'}; wanted "
            "every candidate trained with every loss and seed: go on with 'kdprobe train'"
        )


def _standing(trials: Sequence[Trial]) -> Standing:
    tests = [one.test_accuracy for one in trials if one.test_accuracy is not None]
    return Standing(
        trials[0].candidate,
        fmean(one.validation_accuracy for one in trials),
        fmean(tests) if len(tests) == len(trials) else None,
        len(trials),
        trials[0].cost,
    )


def _place(row: Standing) -> tuple[float, float, str]:
    return -row.validation_accuracy, row.cost["macs"], row.candidate


def agreement(
    first: str, second: str, ours: Sequence[Standing], theirs: Sequence[Standing]
) -> Agreement:
    """Tau-b of two losses' scores over the same m candidates, in any order."""
    from scipy.stats import kendalltau

    other = {row.candidate: row.validation_accuracy for row in theirs}
    pairs = [(row.validation_accuracy, other[row.candidate]) for row in ours]
    tied = any(len(set(scores)) < 2 for scores in zip(*pairs, strict=True))
    if tied:
        return Agreement(first, second, len(pairs), None, None)
    found = kendalltau(*zip(*pairs, strict=True))
    return Agreement(first, second, len(pairs), float(found.statistic), float(found.pvalue))


def _trial(folder: Path, run: RunEntry, candidate: str, loss: str) -> Trial:
    if run.status != "finished":
        raise InputError(
            f"run {run.id!r} is still in training; wanted all runs of the search finished: go on "
            "with 'kdprobe train'"
        )
    try:
        cost = json.loads((folder / "run.json").read_text(encoding="utf-8"))["cost"]
        last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        right, test = last["validation_accuracy"], last["test_accuracy"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"cannot read the results of run {run.id!r} in {folder} ({error!r}); wanted run.json "
            "and metrics.jsonl as the trainer writes them: train it again"
        ) from error
    if right is None:
        raise InputError(
            f"run {run.id!r} has no validation accuracy; wanted images held out to choose by: set "
            "data.validation above 0"
        )
    return Trial(candidate, loss, run.seed, right, test, cost)
