"""`kdprobe verify`: judge results again, print the verdicts, and say whether the required hold."""

from collections.abc import Sequence
from pathlib import Path

import click

from kdprobe.claims.contract import CLAIMS, judge
from kdprobe.commands.tables import print_json, print_table
from kdprobe.errors import UnknownName
from kdprobe.registry import did_you_mean
from kdprobe.results import Results, Verdict, read_results

AND_CONTROLS = "+controls"  # after a claim's name: support against every control is required too


def verify(folder: Path, required: Sequence[str], *, as_json: bool) -> bool:
    """Print the verdicts on the results in `folder`; True when all required claims are supported.

    A required claim has to be supported against the baseline for every student arm at every layer;
    ``H1+controls`` requires it against every control as well, and that the study has one.

    Raises:
        UnknownName: a required claim does not exist.
        InputError: there are no results in `folder`.
    """
    _refuse_unknown(required)
    results = read_results(folder)
    results = results.model_copy(update={"verdicts": tuple(judge(results))})
    failed = _failures(results, required)
    if as_json:
        verdicts = [verdict.model_dump(mode="json") for verdict in results.verdicts]
        print_json({"verdicts": verdicts, "required": list(required), "passed": not failed})
    else:
        print_table("Hypotheses", verdict_columns(results), verdict_rows(results))
        for verdict in results.verdicts:
            click.echo(f"{verdict.claim} {verdict.arm} {verdict.layer}: {_told(verdict)}")
    for line in failed:
        click.echo(line, err=True)
    return not failed


def _refuse_unknown(required: Sequence[str]) -> None:
    claims = [name for claim in CLAIMS.values() for name in claim.names]
    known = [*claims, *(f"{name}{AND_CONTROLS}" for name in claims)]
    for name in required:
        if name not in known:
            hint = did_you_mean(name, known) or "."
            raise UnknownName(f"no claim is called {name!r}{hint} Known: {', '.join(known)}")


def _failures(results: Results, required: Sequence[str]) -> list[str]:
    """One line for every verdict that is not as required."""
    lines = []
    for verdict in results.verdicts:
        where = " ".join(part for part in (verdict.arm, verdict.layer) if part)
        claim, strict = verdict.claim, f"{verdict.claim}{AND_CONTROLS}"
        for name in (claim, strict):
            if name in required and verdict.outcome != "supported":
                lines.append(f"required {name} is {verdict.outcome} ({where})")
        if strict in required and verdict.outcome == "supported" and not verdict.outlasts_controls:
            note = verdict.control_note or "It was judged against no control."
            lines.append(f"required {strict} is supported against the baseline ({where}). {note}")
    return lines


def _told(verdict: Verdict) -> str:
    """The reason, what the controls leave of it, and every effect with its interval."""
    effects = [
        f"{e.quantity} {e.effect:+.3g} [{e.low:+.3g}, {e.high:+.3g}], wanted {e.wanted}"
        for e in verdict.estimates
        if e.effect is not None
    ]
    told = (verdict.reason, verdict.control_note, "; ".join(effects))
    return " ".join(part for part in told if part)


def _layers(results: Results) -> list[str]:
    return list(dict.fromkeys(verdict.layer for verdict in results.verdicts if verdict.layer))


def verdict_columns(results: Results) -> tuple[str, ...]:
    """Claim, student arm, and one column a layer."""
    return ("claim", "students", *(_layers(results) or ["verdict"]))


def verdict_rows(results: Results) -> list[list[str]]:
    """One row a claim and arm: the outcome at every layer, and what weakens or strengthens it."""
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
    remarks = ["not at every b"] if fragile else []
    if verdict.control_note:
        kept = verdict.outlasts_controls
        remarks.append("against controls too" if kept else "not against controls")
    return f"{verdict.outcome} ({', '.join(remarks)})" if remarks else verdict.outcome
