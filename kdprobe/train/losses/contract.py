"""What a loss is: a module that sees the outputs of student and teacher, and gives one number.

``forward(student: Outputs, teacher: Outputs, target) -> scalar``, a mean over the batch. Knobs are
keyword-only arguments of ``__init__``, with defaults. Gradient flows to the student (and to weights
of the loss's own, which are trained along), never to the teacher.

layers              attribute: the layers that it reads of both, beside the logits; the trainer taps
                    them. Knobs that name layers are read by `layer_pairs`
teacher_layers      attribute: where those of the teacher have other names
meet(student, teacher)  method of a loss with weights of its own (a regressor, a memory bank, a
                    variance): called once, on the outputs of two training images, to make them.
                    They are saved beside the student, never in it
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.registry import Catalogue
from kdprobe.train.chance import generator

M = TypeVar("M", bound=type[nn.Module])


@dataclass(frozen=True)
class Batch:
    """What was looked at, for the few losses that must know more than the outputs."""

    pixels: Tensor  # (n, 3, h, w) in [0, 1], as all networks saw them
    rows: Tensor  # (n,) int64, which of the training images
    total: int  # how many training images there are
    seed: int = 0  # of this step: what is drawn in it comes from `chance`
    passed: float = 0.0  # epochs of the training that are over, fractions counted

    def chance(self, purpose: str) -> torch.Generator:
        """A generator on the CPU for one draw of this step."""
        return generator(self.seed, 0, purpose)


@dataclass(frozen=True)
class Outputs:
    """All that a loss may see of a network.

    Axes: n images, c classes, m networks that are trained together.
    """

    logits: Tensor  # (n, c)
    features: Mapping[str, Tensor] = field(default_factory=dict)  # layer -> (n, ...)
    batch: Batch | None = None
    look: Callable[[Tensor], Tensor] | None = None  # other pixels -> this network's logits
    together: Tensor | None = None  # (m, n, c) logits of all networks trained together, in order
    place: int = 0  # which of them this one is

    def layer(self, name: str) -> Tensor:
        """(n, ...) output of the layer `name`; ``logits`` are the raw logits."""
        return self.logits if name == "logits" else self.features[name]

    def seen(self, loss: str) -> Batch:
        """The batch. Raises InputError, in the name of `loss`, where only outputs are known."""
        if self.batch is None:
            raise InputError(
                f"loss {loss!r} must know which images it is shown, and here are only outputs; "
                "use it in a recipe of 'kdprobe train'"
            )
        return self.batch

    def again(self, pixels: Tensor, loss: str) -> Tensor:
        """(n, c) logits of the same network for other pixels. Raises InputError as `seen` does."""
        if self.look is None:
            raise InputError(
                f"loss {loss!r} shows the networks images of its own, and here are only outputs; "
                "use it in a recipe of 'kdprobe train', without cached teacher logits"
            )
        return self.look(pixels)


def named(target: Tensor) -> Tensor:
    """(n,) the label of each image; of mixed images, whose target is (n, c), the heavier one."""
    return target if target.dim() == 1 else target.argmax(1)


@dataclass(frozen=True)
class Pair:
    """A layer of the student, and the one of the teacher that it is held against."""

    student: str
    teacher: str


def layer_pairs(text: str, knob: str = "layers") -> tuple[Pair, ...]:
    """``"stage1,stage2:block2"`` -> the pairs (stage1, stage1) and (stage2, block2).

    Raises InputError where it is no text of names.
    """
    parts = [part.strip() for part in text.split(",")] if isinstance(text, str) else [""]
    found = [part.partition(":") for part in parts]
    if not all(ours and (theirs or not colon) for ours, colon, theirs in found):
        raise InputError(
            f'found {knob}={text!r}; wanted names of layers such as "stage1,stage2", or '
            '"stage2:block2" where the teacher\'s has another name'
        )
    return tuple(Pair(ours.strip(), (theirs or ours).strip()) for ours, _, theirs in found)


def layers_read(loss: nn.Module, side: str = "layers") -> tuple[str, ...]:
    """The layers that a loss reads of the student, or with "teacher_layers" of the teacher.

    ``logits`` among them where a knob of the loss names them.
    """
    own = getattr(loss, "layers", ())
    return tuple(own if side == "layers" else getattr(loss, side, own))


@dataclass(frozen=True)
class Loss:
    """A loss and its label. `zero_at_teacher` is a promise that the tests hold it to."""

    key: str
    title: str
    source: str  # paper, and the equation or section that is implemented
    needs_teacher: bool
    zero_at_teacher: bool  # 0 where the student's outputs equal the teacher's
    make: Callable[..., nn.Module]
    needs_company: bool = False  # of networks that are trained together


LOSSES: Catalogue[Loss] = Catalogue("loss", "kdprobe.train.losses")


def loss(
    key: str,
    *,
    title: str,
    source: str,
    needs_teacher: bool,
    zero_at_teacher: bool,
    needs_company: bool = False,
) -> Callable[[M], M]:
    """Put the module below into LOSSES under `key`."""

    def add(make: M) -> M:
        entry = Loss(key, title, source, needs_teacher, zero_at_teacher, make, needs_company)
        LOSSES.add(key, entry)
        return make

    return add


def widened(values: Tensor) -> Tensor:
    """`values` in float32 where they are narrower: a softmax in half precision loses its tail."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
