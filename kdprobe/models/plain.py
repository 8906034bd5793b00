"""What does a residual network lose without its shortcuts?  The same layers in a plain chain.

Source: He et al. 2016, arXiv:1512.03385, section 4.2 ("plain" counterparts).
"""

from torch import nn

from kdprobe.models.contract import family
from kdprobe.models.resnet import ResNet, blocks_per_stage, stage_filters


@family(
    "plain",
    pattern=r"plain(\d+)(x4)?",
    summary="the resnet of the same depth and width without shortcuts; knob: width",
    examples=("plain8", "plain20", "plain8x4"),
)
def plain(depth: str, x4: str | None = None, *, num_classes: int, width: int = 16) -> nn.Module:
    """``plain20``: taps and keys of ``resnet20``, less the projections of its shortcuts."""
    blocks = blocks_per_stage(f"plain{depth}{x4 or ''}", int(depth))
    return ResNet(blocks, stage_filters(width, bool(x4)), num_classes, residual=False)
