"""What does the first page of the paper say?  The headline, as data."""

from typing import Any

from kdprobe.report.colours import PRINT, Colours
from kdprobe.report.document import Chapter, evidence
from kdprobe.report.finding import Finding
from kdprobe.report.fitting import breakable, cut
from kdprobe.report.headline import ALL_JUDGED, READING, WAYS, Arm, Claim, headline, key_estimate
from kdprobe.report.numbers import interval, number, percent, scales
from kdprobe.results import AgainstControl, Estimate, Results, Verdict

Data = dict[str, Any]


class FirstPage:
    """Turns the headline of `results` into what `report.typ` reads."""

    def __init__(self, results: Results, colours: Colours, shown: list[Chapter]) -> None:
        self._top, self._colours, self._shown = headline(results), colours, shown

    def data(self) -> Data:
        """The networks, the claims with all their verdicts, and the findings."""
        top = self._top
        nothing = "No problem was found in the study, and no clear difference."
        return {
            "facts": breakable(top.facts),
            "sentence": top.sentence,
            "arms": [self._arm(arm) for arm in top.arms],
            "claims": [self._claim(claim) for claim in top.claims],
            "findings": [
                self._findings("What deserves attention", top.attention, nothing),
                self._findings("What could not be judged", top.unjudged, ALL_JUDGED),
            ],
            "caution": top.caution,
            "reading": READING,
        }

    def _ink(self, role: str, name: str) -> str:
        return PRINT[self._colours.of(role, name)]

    def _arm(self, arm: Arm) -> Data:
        gain = None if arm.gain is None else f"{arm.gain_in_points} points against the baseline"
        return {
            "name": cut(arm.name),
            "role": "" if arm.name == arm.role else arm.role,
            "runs": f"{arm.runs} {'run' if arm.runs == 1 else 'runs'}",
            "ink": self._ink(arm.role, arm.name),
            "accuracy": percent(arm.accuracy),
            "gain": gain,
            "tally": [{"outcome": outcome, "count": count} for outcome, count in arm.tally],
        }

    def _claim(self, claim: Claim) -> Data:
        reach = scales(claim.verdicts)
        return {
            "code": breakable(claim.code),
            "statement": breakable(claim.statement),
            "source": breakable(claim.source),
            "terms": [{"name": name, "meaning": meaning} for name, meaning in claim.terms],
            "rulings": [
                {
                    "arm": cut(ruling.arm) or "students",
                    "ink": self._ink("student", ruling.arm),
                    "sentence": ruling.sentence,
                    "notes": [breakable(note) for note in ruling.notes],
                    "verdicts": [self._verdict(verdict, reach) for verdict in ruling.verdicts],
                }
                for ruling in claim.rulings
            ],
        }

    def _verdict(self, verdict: Verdict, reach: dict[str, float]) -> Data:
        shown = key_estimate(verdict)
        return {
            "layer": cut(verdict.layer) or "every layer",
            "outcome": verdict.outcome,
            "reason": breakable(verdict.reason),
            "sample": _sample(verdict),
            "note": breakable(verdict.control_note),
            "controls": [self._control(entry) for entry in verdict.controls],
            "effect": breakable(f"{WAYS[shown.wanted]} {shown.quantity} {interval(shown)}")
            if shown
            else "",
            "estimates": [_estimate(entry, reach[entry.quantity]) for entry in verdict.estimates],
        }

    def _control(self, entry: AgainstControl) -> Data:
        seeds = f" ({entry.seeds} {'seed' if entry.seeds == 1 else 'seeds'})" if entry.seeds else ""
        text = f"Against {entry.arm}{seeds}, {entry.outcome}: {entry.reason}"
        return {"ink": self._ink("control", entry.arm), "text": breakable(text)}

    def _findings(self, title: str, found: tuple[Finding, ...], nothing: str) -> Data:
        entries = [
            {
                "subject": breakable(entry.subject),
                "what": breakable(entry.what),
                "id": evidence(entry, self._shown),
            }
            for entry in found
        ]
        return {"title": title, "entries": entries, "nothing": nothing}


def _sample(verdict: Verdict) -> str:
    seeds = f"{verdict.seeds} seed{'' if verdict.seeds == 1 else 's'}"
    parts = [f"{seeds}, {verdict.images} images"] if verdict.seeds else []
    if verdict.robust is not None:
        parts.append(f"{'same' if verdict.robust else 'not the same'} at every threshold b")
    return "; ".join(parts)


def _estimate(entry: Estimate, reach: float) -> Data:
    places = {
        side: None if value is None else value / reach
        for side, value in (("low", entry.low), ("at", entry.effect), ("high", entry.high))
    }
    return {
        "quantity": breakable(entry.quantity),
        "wanted": f"{WAYS[entry.wanted]} {entry.wanted}",
        "effect": interval(entry),
        "p": number(entry.p_value),
        "outcome": entry.outcome,
        **places,
    }
