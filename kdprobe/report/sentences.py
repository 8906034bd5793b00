"""How is a difference to the baseline said?  The places of the metrics' numbers, in plain words.

A metric that is not named here is told of by the titles of its forest plots (`differences.py`).
"""

from dataclasses import dataclass
from math import log


@dataclass(frozen=True)
class Sentence:
    """How the numbers at one place of a metric are told: above zero, and below."""

    metric: str
    path: tuple[str, ...]  # in its values; or the one beginning of the title of a forest plot
    above: str  # {gap} and {where} are filled in
    below: str
    unit: float = 1.0  # what the numbers are multiplied by
    at: str = "at"  # before the layer or the method
    part: str = ""  # only what is called so
    ratio: bool = False  # times the unit, the numbers are ln(student / baseline)
    plot: bool = False  # read from a forest plot


SENTENCES = (
    Sentence(
        "fidelity",
        ("effects", "agreement"),
        "answers as the teacher does more often than the baseline: {gap} points",
        "answers as the teacher does less often than the baseline: {gap} points",
        unit=100,
    ),
    Sentence(
        "fidelity",
        ("effects", "kl at 1"),
        "its probabilities are further from the teacher's than the baseline's: KL {gap} nats",
        "its probabilities are nearer to the teacher's than the baseline's: KL {gap} nats",
    ),
    Sentence(
        "calibration",
        ("effects", "ece"),
        "its confidence is further from its accuracy than the baseline's: ECE {gap} points",
        "its confidence is closer to its accuracy than the baseline's: ECE {gap} points",
        unit=100,
    ),
    Sentence(
        "calibration",
        ("effects", "overconfidence"),
        "is more confident for its accuracy than the baseline: {gap} points",
        "is less confident for its accuracy than the baseline: {gap} points",
        unit=100,
    ),
    Sentence(
        "forgetting",
        ("fewer",),
        "forgets images more often while it trains than the baseline: {gap} times an image",
        "forgets images less often while it trains than the baseline: {gap} times an image",
    ),
    Sentence(
        "forgetting",
        ("nearer",),
        "learns images more in the teacher's order than the baseline: ρ {gap}",
        "learns images less in the teacher's order than the baseline: ρ {gap}",
    ),
    Sentence(
        "settling",
        ("later",),
        "settles later than the baseline: {gap} epochs{where}",
        "settles earlier than the baseline: {gap} epochs{where}",
    ),
    Sentence(
        "readout",
        ("gains",),
        "the class is read more easily from its features: {gap} points{where}",
        "the class is read less easily from its features: {gap} points{where}",
        unit=100,
    ),
    Sentence(
        "reuse",
        ("effects",),
        "its blocks change the features more than the baseline's: {gap}",
        "its blocks change the features less than the baseline's: {gap}",
        part="update",
    ),
    Sentence(
        "landscape",
        ("effects", "sharpness"),
        "lies in steeper ground than the baseline: largest rise nearby {gap} nats",
        "lies in flatter ground than the baseline: largest rise nearby {gap} nats",
    ),
    Sentence(
        "trajectory",
        ("effects",),
        "trains along a straighter path than the baseline: displacement / length {gap}",
        "trains along a more winding path than the baseline: displacement / length {gap}",
    ),
    Sentence(
        "curvature",
        ("effects",),
        "is sharper: its largest Hessian eigenvalue is {gap} times the baseline's",
        "is flatter: its largest Hessian eigenvalue is {gap} times the baseline's",
        part="largest eigenvalue",
        ratio=True,
    ),
    Sentence(
        "curvature",
        ("effects",),
        "bends more in all directions together: its Hessian trace is {gap} times the baseline's",
        "bends less in all directions together: its Hessian trace is {gap} times the baseline's",
        part="trace",
        ratio=True,
    ),
    Sentence(
        "attributions",
        ("correlation",),
        "looks more where the teacher looks than the baseline: rank correlation {gap}{where}",
        "looks less where the teacher looks than the baseline: rank correlation {gap}{where}",
        at="by",
    ),
    Sentence(
        "attributions",
        ("mass",),
        "more of what it looks at lies on the object than the baseline's: {gap} points{where}",
        "less of what it looks at lies on the object than the baseline's: {gap} points{where}",
        unit=100,
        at="by",
    ),
    Sentence(
        "concept_vectors",
        ("like_teacher",),
        "concepts count for it as for the teacher, more than for the baseline: {gap}{where}",
        "concepts count for it as for the teacher, less than for the baseline: {gap}{where}",
    ),
    Sentence(
        "cka",
        ("nearer_teacher",),
        "its features are more like the teacher's than an independent network's: CKA {gap}{where}",
        "its features are less like the teacher's than an independent network's: CKA {gap}{where}",
    ),
    Sentence(
        "distilled",
        ("Relevance of distilled",),
        "what it alone has tells more of the classes than what the baseline alone has: "
        "RS {gap}{where}",
        "what it alone has tells less of the classes than what the baseline alone has: "
        "RS {gap}{where}",
        plot=True,
    ),
    Sentence(
        "distilled",
        ("Likeness to the teacher",),
        "its features are more like the teacher's than the baseline's are: FSS {gap}{where}",
        "its features are less like the teacher's than the baseline's are: FSS {gap}{where}",
        plot=True,
    ),
    Sentence(
        "similarity",
        ("Nearer to the teacher",),
        "its features are nearer to the teacher's than the baseline's are: {gap}{where}",
        "its features are further from the teacher's than the baseline's are: {gap}{where}",
        at="by",
        plot=True,
    ),
    Sentence(
        "dimension",
        ("Dimension against the baseline",),
        "its features have more dimensions: {gap} times the baseline's{where}",
        "its features have fewer dimensions: {gap} times the baseline's{where}",
        unit=log(2),
        at="by",
        ratio=True,
        plot=True,
    ),
    Sentence(
        "exaggeration",
        ("Slope",),
        "its confidence rises more steeply with the teacher's than the baseline's does: "
        "slope {gap}",
        "its confidence rises less steeply with the teacher's than the baseline's does: "
        "slope {gap}",
        plot=True,
    ),
)
