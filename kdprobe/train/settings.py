"""What a recipe holds: one teacher, arms of students, seeds, and which epochs are kept.

These tables check shapes and types; `faults.py` checks whether the names and numbers fit together.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Name = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # becomes the name of a folder
Rgb = tuple[float, float, float]


class Table(BaseModel):
    """A table of a recipe: frozen, strict about types, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(Table):
    """Which images, how they are normalised, and how far each view is shifted."""

    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    mean: Rgb | None = None  # of the pixels in [0, 1]; None: measured on the training images
    std: Rgb | None = None
    shift: int = Field(0, ge=0)  # pixels; random crop out of mirrored surroundings; 0 = off


class Optimizer(Table):
    """Stochastic gradient descent, the same for teacher and arms."""

    lr: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    epochs: int = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    nesterov: bool = False
    schedule: Literal["constant", "cosine", "steps"] = "cosine"
    milestones: tuple[int, ...] = ()  # steps: epochs after which lr is multiplied by gamma
    gamma: float = Field(0.1, gt=0)


class Model(Table):
    """A bundled network and its settings."""

    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


class Teacher(Table):
    """The network that is trained first; what is not given is as for the arms."""

    model: Model
    loss: str = "cross_entropy"
    seed: int = Field(0, ge=0)
    epochs: int | None = Field(None, gt=0)
    lr: float | None = Field(None, gt=0)
    checkpoints: tuple[int, ...] | None = None


class Arm(Table):
    """Runs that differ by seed only: a baseline without teacher, a student, or a control."""

    role: Literal["baseline", "student", "control"]
    model: Model
    loss: str  # such as 0.1*cross_entropy + 0.9*kd(T=4)


class Recipe(Table):
    """A whole study to be trained."""

    name: str = Field(pattern=Name)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    checkpoints: tuple[int, ...] | None = None  # epochs that are saved; None: all of them
    precision: Literal["float32", "float16"] = "float32"  # of the saved weights
    data: Data
    optimizer: Optimizer
    teacher: Teacher | None = None
    arms: dict[str, Arm] = Field(min_length=1)
