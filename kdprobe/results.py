"""What an analysis found: one frozen record that every later step reads, and nothing else.

`results.json` holds no time and no path of a machine, so that the same study gives the same file.
"""

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError

from kdprobe.errors import InputError
from kdprobe.panels import SHOWN_BY, Frozen, Panel, Shown

SCHEMA_VERSION = 1
SIGNIFICANT_DIGITS = 6

Role = Literal["teacher", "baseline", "student", "control"]
Outcome = Literal["supported", "contradicted", "undecided", "not applicable"]


class RunSummary(Frozen):
    """One trained network of the study."""

    id: str
    role: Role
    arm: str
    seed: int | None
    model: str
    parameters: int
    epochs: tuple[int, ...]  # of the checkpoints that were read
    digest: str  # of the checkpoint at which it is compared


class StudySummary(Frozen):
    """Who was analysed, on what."""

    name: str
    dataset: str
    classes: tuple[str, ...]
    runs: tuple[RunSummary, ...]


class Problem(Frozen):
    """Something that is wrong with the study and did not stop the analysis."""

    subject: str
    what: str
    left_out: bool = False  # something could not be analysed because of it


class MetricReport(Shown):
    """One metric: its label, what was used, the numbers, and how to show them."""

    key: str
    title: str
    part: str = ""  # of the page
    question: str
    definition: str
    source: str
    better: Literal["higher", "lower", "neither"]
    settings: dict[str, JsonValue]
    status: Literal["measured", "not applicable"]
    reason: str = ""  # why it is not applicable
    values: dict[str, JsonValue] = Field(default_factory=dict)
    panels: tuple[Panel, ...] = ()


class Estimate(Frozen):
    """One compared quantity: student minus baseline or control, in the quantity's unit."""

    quantity: str
    meaning: str = ""  # in a few words, with the unit
    effect: float | None
    low: float | None  # 95% interval
    high: float | None
    p_value: float | None  # two-sided, adjusted over layers and parts (Holm)
    wanted: Literal["higher", "lower"]
    outcome: Outcome


class SweepPoint(Frozen):
    """The outcome of a verdict at another concept threshold b."""

    b: float
    outcome: Outcome


class AgainstControl(Frozen):
    """The hypothesis of a verdict, judged against one arm of controls instead of the baseline."""

    arm: str  # of the controls
    outcome: Outcome  # "not applicable": no seed in common
    reason: str  # one plain sentence
    estimates: tuple[Estimate, ...] = ()
    seeds: int = 0
    images: int = 0


class Verdict(Shown):
    """One hypothesis, judged for one student arm at one layer."""

    claim: str  # H1, H2, H3
    statement: str
    source: str
    arm: str
    layer: str
    outcome: Outcome
    reason: str  # one plain sentence
    estimates: tuple[Estimate, ...] = ()
    seeds: int = 0
    images: int = 0
    sweep: tuple[SweepPoint, ...] = ()
    robust: bool | None = None  # same outcome along the whole sweep; None where there is no sweep
    controls: tuple[AgainstControl, ...] = ()  # one an arm of controls
    control_note: str = ""  # one plain sentence on a supported verdict of a study with controls

    @property
    def outlasts_controls(self) -> bool:
        """Supported against the baseline and against every control, of which there is one."""
        outcomes = {self.outcome, *(control.outcome for control in self.controls)}
        return bool(self.controls) and outcomes == {"supported"}


class Results(Shown):
    """Everything that an analysis found."""

    schema_version: Literal[1] = 1
    kdprobe_version: str
    study: StudySummary
    metrics: tuple[MetricReport, ...]
    verdicts: tuple[Verdict, ...] = ()
    problems: tuple[Problem, ...] = ()
    provenance: dict[str, str] = Field(default_factory=dict)

    def metric(self, key: str) -> MetricReport | None:
        """The report of the metric called `key`, or None when it was not asked for."""
        return next((entry for entry in self.metrics if entry.key == key), None)

    def plot(self, metric: str = "") -> Any:
        """The figures of a metric in the colours of the study; of all verdicts without one.

        Raises:
            UsageError: there is no such metric, or it has no figure.
        """
        return import_module(SHOWN_BY).plotted(self, metric)

    def to_json(self) -> str:
        """The text of results.json: stable order, floats to six significant digits, no NaN."""
        data = _rounded(self.model_dump(mode="json"))
        return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"

    def settled(self) -> "Results":
        """As results.json gives it back: rounded, and None for what is no number."""
        return Results.model_validate_json(self.to_json())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def read_results(path: Path) -> Results:
    """Read a results.json, or the one inside a report's folder.

    Raises:
        InputError: there is none, or it is not a results file of this schema version.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        text = file.read_bytes()  # what is not UTF-8 is found out below
    except OSError as error:
        raise InputError(
            f"found no results at {file} ({error.strerror}); wanted a results.json; "
            "run 'kdprobe analyze STUDY' first and pass its output folder"
        ) from error
    try:
        return Results.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{file} is not a results file of schema version {SCHEMA_VERSION}: at {where}: "
            f"{first['msg']}; run 'kdprobe analyze' again with this version of kdprobe"
        ) from error
