"""What a recipe holds: one teacher, arms of students, seeds, and which epochs are kept.

These tables check shapes and types; `faults.py` checks whether the names and numbers fit together.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat

Name = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # becomes the name of a folder
Rgb = tuple[float, float, float]


class Table(BaseModel):
    """A table of a recipe: frozen, strict about types, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(Table):
    """Which images, how they are split and changed, and what the networks see of them."""

    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    mean: Rgb | None = None  # of the pixels in [0, 1]; None: measured on the training images
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    validation: float = Field(0.1, ge=0, lt=1)  # share of the training images that only chooses
    corrupt: tuple[str, ...] = ()  # of the training part, such as "label_noise(rate=0.4)"
    shift: int = Field(0, ge=0)  # pixels; random crop out of mirrored surroundings; 0 = off
    augment: tuple[str, ...] = ()  # such as "flip", "mixup(alpha=0.2)", in order


class Optimizer(Table):
    """How weights are moved, the same for teacher and arms but for what they set themselves."""

    method: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    batch_size: int = Field(gt=0)  # images a step, over all processes
    epochs: int = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)  # of adam: beta_1
    weight_decay: float = Field(5e-4, ge=0)
    nesterov: bool = False
    schedule: Literal["constant", "cosine", "steps", "one_cycle"] = "cosine"
    milestones: tuple[int, ...] = ()  # steps: epochs after which lr is multiplied by gamma
    gamma: float = Field(0.1, gt=0)
    warmup: float = Field(0.0, ge=0)  # epochs over which the rate rises from 0, before its schedule
    accumulate: int = Field(1, gt=0)  # parts into which a step's batch is cut
    clip: float | None = Field(None, gt=0)  # longest gradient (l2) of a step
    ema: float | None = Field(None, gt=0, lt=1)  # decay of averaged weights, which are then saved
    autocast: Literal["float32", "bfloat16", "float16"] = "float32"
    patience: int | None = Field(None, gt=0)  # epochs without a better validation loss, then stop
    compile: bool = False


class Model(Table):
    """A bundled network, its settings, and what is changed in it."""

    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    transforms: tuple[str, ...] = ()  # such as "strip_skips"


class Source(Table):
    """A checkpoint: of the teacher, or of the run of an arm with the same seed."""

    run: str = "teacher"  # or the name of an arm
    epoch: int | Literal["last", "best"] = "last"  # a saved one; 0 = before training


class Stage(Table):
    """A part of the training of an arm, with a loss of its own."""

    epochs: int = Field(gt=0)
    loss: str
    freeze: tuple[str, ...] = ()  # module paths that stand still, statistics included
    lr: float | None = Field(None, gt=0)  # begins the schedule anew, at this rate; None: goes on


class Teacher(Table):
    """The network that is trained first; what is not given is as for the arms.

    Or one that is there already: a run of another study, whose checkpoints are copied.
    """

    model: Model | None = None  # this one is trained, or
    study: str = ""  # the folder of the study that holds the teacher
    run: str = ""  # its id there; default: the teacher
    loss: str = "cross_entropy"
    seed: int = Field(0, ge=0)
    epochs: int | None = Field(None, gt=0)
    lr: float | None = Field(None, gt=0)
    checkpoints: tuple[int, ...] | Literal["all", "auto"] | None = None
    techniques: tuple[str, ...] = ()
    clean: bool = False  # learns from the data without `data.corrupt`


class Arm(Table):
    """Runs that differ by seed only: a baseline without teacher, a student, or a control."""

    role: Literal["baseline", "student", "control"]
    model: Model
    loss: str | None = None  # such as 0.1*cross_entropy + 0.9*kd(T=4)
    stages: tuple[Stage, ...] = ()  # instead of `loss`; their epochs add up to optimizer.epochs
    teacher: Source = Source()
    start: Source | None = None  # begin with these weights
    together: int = Field(1, gt=0)  # networks that are trained together (DML: 2)
    share: str = ""  # together: they share the layers up to this tap (ONE: "stage2")
    techniques: tuple[str, ...] = ()  # such as "prune(amount=0.9)"
    lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)


class Search(Table):
    """Arms drawn at random: networks of one family within a budget, each with every loss."""

    family: str  # a name with places, "resnet{depth}" (width is then a knob), "wrn_{depth}_{width}"
    depths: tuple[int, ...] = Field(min_length=1)
    widths: tuple[int, ...] = Field(min_length=1)
    macs: float = Field(gt=0)  # most multiply-adds for one image
    side: int = Field(32, gt=0)  # pixels of the image that they are counted for
    classes: int = Field(10, gt=0)
    count: int = Field(gt=0)  # networks that are drawn
    seed: int = Field(0, ge=0)
    losses: dict[str, str] = Field(min_length=1)  # name -> loss; the first is the reference


class Recipe(Table):
    """A whole study to be trained."""

    name: str = Field(pattern=Name)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    checkpoints: tuple[int, ...] | Literal["all", "auto"] | None = None  # epochs; None: all
    precision: Literal["float32", "float16"] = "float32"  # of the saved weights
    gradients: int = Field(0, ge=0)  # look at each term's gradient every so many epochs; 0 = never
    predictions: bool = False  # save the validation logits of every epoch
    cache_teacher: bool = False  # reckon the teacher's logits once; needs views that stay the same
    at_once: int | None = Field(None, gt=0)  # most runs that train together; None: all that fit
    data: Data
    optimizer: Optimizer
    teacher: Teacher | None = None
    search: Search | None = None  # adds arms
    arms: dict[str, Arm] = Field(min_length=1)
