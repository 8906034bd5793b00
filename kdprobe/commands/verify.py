"""`kdprobe verify`: judge results again, print the verdicts, and say whether the required hold."""

from collections.abc import Sequence
from pathlib import Path

import click

from kdprobe.claims.contract import CLAIMS, judge
from kdprobe.commands.tables import print_json, print_table
from kdprobe.errors import UnknownName
from kdprobe.registry import did_you_mean
from kdprobe.results import Results, Verdict, read_results


def verify(folder: Path, required: Sequence[str], *, as_json: bool) -> bool:
    """Print the verdicts on the results in `folder`; True when all required claims are supported.

    A required claim has to be supported for every student arm at every layer.
    """
    known = [name for claim in CLAIMS.values() for name in claim.names]
    for name in required:
        if name not in known:
            hint = did_you_mean(name, known) or "."
            raise UnknownName(f"no claim is called {name!r}{hint} Known: {', '.join(known)}")
    results = read_results(folder)
    results = results.model_copy(update={"verdicts": tuple(judge(results))})
    failed = [v for v in results.verdicts if v.claim in required and v.outcome != "supported"]
    if as_json:
        verdicts = [verdict.model_dump(mode="json") for verdict in results.verdicts]
        print_json({"verdicts": verdicts, "required": list(required), "passed": not failed})
    else:
        print_table("Hypotheses", verdict_columns(results), verdict_rows(results))
        for verdict in results.verdicts:
            click.echo(f"{verdict.claim} {verdict.arm} {verdict.layer}: {_told(verdict)}")
    for verdict in failed:
        where = " ".join(part for part in (verdict.arm, verdict.layer) if part)
        click.echo(f"required {verdict.claim} is {verdict.outcome} ({where})", err=True)
    return not failed


def _told(verdict: Verdict) -> str:
    """The reason, and every effect with its interval."""
    effects = [
        f"{e.quantity} {e.effect:+.3g} [{e.low:+.3g}, {e.high:+.3g}], wanted {e.wanted}"
        for e in verdict.estimates
        if e.effect is not None
    ]
    return " ".join([verdict.reason, "; ".join(effects)]).strip()


def _layers(results: Results) -> list[str]:
    return list(dict.fromkeys(verdict.layer for verdict in results.verdicts if verdict.layer))


def verdict_columns(results: Results) -> tuple[str, ...]:
    """Claim, student arm, and one column a layer."""
    return ("claim", "students", *(_layers(results) or ["verdict"]))


def verdict_rows(results: Results) -> list[list[str]]:
    """One row a claim and arm: the outcome at every layer, and whether it holds along the sweep."""
    layers = _layers(results) or [""]
    groups: dict[tuple[str, str], dict[str, Verdict]] = {}
    for verdict in results.verdicts:
        groups.setdefault((verdict.claim, verdict.arm), {})[verdict.layer] = verdict
    return [[*key, *(_word(found, layer) for layer in layers)] for key, found in groups.items()]


def _word(found: dict[str, Verdict], layer: str) -> str:
    verdict = found.get(layer) or found.get("")
    if verdict is None:
        return ""
    fragile = verdict.robust is False and verdict.outcome != "undecided"
    return f"{verdict.outcome} (not at every b)" if fragile else verdict.outcome
