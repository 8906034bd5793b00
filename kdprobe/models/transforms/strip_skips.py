"""What does a network lose without its shortcuts?  Every residual sum gives way to its branch.

    y = skip(x) + branch(x)   becomes   y = branch(x)

Identities and projections go, and with these their parameters; activations after the sum stay. All
other layers keep the weights they were drawn with, so twin and original start alike. Where what is
kept stands beside what is new instead of being added (ShuffleV1 between stages, ShuffleV2), it
stays: without it the next layer would lack channels.

Source: He et al. 2016, arXiv:1512.03385, section 4.2 ("plain" counterparts).
"""

from torch import nn

from kdprobe.errors import InputError
from kdprobe.models._residual import ResidualBlock
from kdprobe.models.transforms.contract import transform


@transform(
    "strip_skips",
    title="without residual connections",
    source="He et al. 2016, arXiv:1512.03385, section 4.2",
)
def strip_skips(body: nn.Module) -> nn.Module:
    """The non-residual twin of `body`, changed in place. Raises InputError where nothing is added.

    The twin of ``resnet20`` has the keys of ``plain20``. `parameters_of_skips` says beforehand how
    many parameters go; `run.json` and 'kdprobe inspect' tell it of every run.
    """
    for block in residual_blocks(body):
        block.strip()
    return body


def parameters_of_skips(body: nn.Module) -> int:
    """How many parameters `strip_skips` would take from `body`; 0 where all skips are identities.

    Raises:
        InputError: nothing is added anywhere in `body`.
    """
    names = {
        f"{path}.{name}."
        for path, block in body.named_modules()
        if isinstance(block, ResidualBlock)
        for name in block.projections
    }
    residual_blocks(body)
    return sum(p.numel() for key, p in body.named_parameters() if key.startswith(tuple(names)))


def residual_blocks(body: nn.Module) -> list[ResidualBlock]:
    """The blocks of `body` that add their input, in order. Raises InputError where there are none.

    Of other people's networks none is known.
    """
    found = [m for m in body.modules() if isinstance(m, ResidualBlock) and m.skips]
    if not found:
        raise InputError(
            f"found no residual block in {type(body).__name__}; wanted a network that adds inputs "
            "to outputs: take a resnet, ResNet50, wrn, MobileNetV2, ShuffleV1 or vit"
        )
    return found
