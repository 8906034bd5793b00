"""Where does a loss push the logits?  n times the gradient of its mean over n images.

The loss is an expression of the catalogue (``0.1*cross_entropy + 0.9*kd(T=4)``), or a module of the
user's own with ``forward(student, teacher, target)`` over Outputs.

Axes: n images, c classes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError, KdprobeError, UsageError
from kdprobe.expression import Term, parse_loss
from kdprobe.loading import own_code
from kdprobe.train.arm_faults import loss_faults
from kdprobe.train.chance import drawn_from
from kdprobe.train.losses.contract import LOSSES, Outputs, layers_read


@dataclass(frozen=True)
class Draw:
    """What a loss is shown once."""

    student: Outputs
    teacher: Outputs
    target: Tensor  # (n,) int64


class Weighted(nn.Module):
    """The sum of an expression's losses, weights included."""

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.weights = tuple(term.weight for term in terms)
        self.losses = nn.ModuleList(LOSSES[term.name].make(**dict(term.knobs)) for term in terms)
        self.layers, self.teacher_layers = (
            tuple(dict.fromkeys(name for loss in self.losses for name in layers_read(loss, side)))
            for side in ("layers", "teacher_layers")
        )
        self.needs_teacher = any(LOSSES[term.name].needs_teacher for term in terms)
        self.temperatures = tuple({float(T) for loss in self.losses if (T := _own_T(loss))})

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """A scalar."""
        values = [loss(student, teacher, target) for loss in self.losses]
        weighted = [w * value for w, value in zip(self.weights, values, strict=True)]
        return torch.stack(weighted).sum()


def _own_T(loss: nn.Module) -> float:
    found = getattr(loss, "T", 0.0)
    return found if isinstance(found, float) else 0.0


def expressed(text: str) -> Weighted:
    """The loss of an expression. Raises UsageError with all its faults."""
    faults = list(loss_faults({"teacher": {}, "arms": {"audited": {"loss": text}}}))
    if faults:
        raise UsageError(f"loss {text!r}: " + "; ".join(fault.text for fault in faults))
    return Weighted(parse_loss(text))


def own_loss(path: str, allowed: Collection[str]) -> nn.Module:
    """What the user's factory ``module:function`` gives.

    Raises:
        InputError: its module is not in `allowed`, or it fails or gives no nn.Module.
    """
    module = path.partition(":")[0]
    if module not in allowed:
        raise InputError(
            f"found code to run: {path!r}; refused. If you trust it, run again with "
            f"--allow-code {module}"
        )
    make = own_code(path, allowed)
    try:
        made = make()
    except Exception as error:  # whatever the user's own code may raise
        raise _failed(f"factory {path!r}", error) from error
    if not isinstance(made, nn.Module):
        raise InputError(
            f"factory {path!r} gave {type(made).__name__}; wanted a torch.nn.Module with "
            "forward(student, teacher, target)"
        )
    return made


def layers_of(loss: nn.Module, side: str = "layers") -> tuple[str, ...]:
    """The layers that `loss` reads beside the logits; of the teacher with "teacher_layers"."""
    return tuple(layer for layer in layers_read(loss, side) if layer != "logits")


def push(loss: nn.Module, draw: Draw, seed: int) -> Tensor:
    """(n, c) n times the gradient of `loss` in the student's logits; torch's chance is kept.

    Raises:
        InputError: the loss fails, is no finite number, or does not look at the logits.
    """
    logits = draw.student.logits.detach().clone().requires_grad_()
    student = Outputs(logits, draw.student.features)
    with drawn_from(seed, "an audited loss"), torch.enable_grad():
        value = _valued(loss, student, draw)
        slope = None
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value, logits, allow_unused=True)
    if slope is None or not bool(slope.any()):
        raise InputError(
            "found a loss that does not depend on the student's logits; the audit wants one that "
            "does: it compares the push on the logits, and says nothing of other layers"
        )
    if not bool(torch.isfinite(slope).all()):
        raise InputError("found a gradient that is not finite; wanted numbers: mend the loss")
    return slope * len(logits)


def _valued(loss: nn.Module, student: Outputs, draw: Draw) -> Tensor:
    try:
        value = loss(student, draw.teacher, draw.target)
    except KeyError as error:
        raise InputError(
            f"the loss reads layer {error}, which was not looked at; name it in the loss's "
            "attribute 'layers', and give a study (--study) whose networks have it"
        ) from error
    except KdprobeError:
        raise
    except Exception as error:  # whatever the user's own code may raise
        raise _failed("the loss", error) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"the loss gave {shape}; wanted one number, the mean over the images")
    return value.sum()


def _failed(what: str, error: Exception) -> InputError:
    told = f"{type(error).__name__}: {error}"
    return InputError(f"{what} failed: {told}; wanted it to return; mend that code")
