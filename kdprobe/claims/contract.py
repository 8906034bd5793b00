"""What a claim is: a function that reads results and returns verdicts. It never runs a network.

Verdicts are "supported", "contradicted", "undecided" or "not applicable", each with its effect,
its interval and one sentence of reason. One seed alone is never more than "undecided".
"""

from collections.abc import Callable
from dataclasses import dataclass

from kdprobe.registry import Catalogue
from kdprobe.results import Results, Verdict


@dataclass(frozen=True)
class Claim:
    """The claims of one source."""

    key: str
    title: str
    source: str
    names: tuple[str, ...]  # as `kdprobe verify --require` takes them
    judge: Callable[[Results], list[Verdict]]


CLAIMS: Catalogue[Claim] = Catalogue("claim", "kdprobe.claims")


def claim(
    key: str, *, title: str, source: str, names: tuple[str, ...]
) -> Callable[[Callable[[Results], list[Verdict]]], Callable[[Results], list[Verdict]]]:
    """Put the function below into CLAIMS under `key`."""

    def add(judge: Callable[[Results], list[Verdict]]) -> Callable[[Results], list[Verdict]]:
        CLAIMS.add(key, Claim(key, title, source, names, judge))
        return judge

    return add


def judge(results: Results) -> list[Verdict]:
    """The verdicts of all claims on `results`."""
    return [verdict for entry in CLAIMS.values() for verdict in entry.judge(results)]
