"""Can a deep network train as many shallow ones?  Branches of residual blocks left out by chance.

In training, for each image by itself, in block l of L

    y = skip(x) + b / (1 - p_l) * branch(x),   b ~ Bernoulli(1 - p_l),   p_l = p l / L

and y = skip(x) + branch(x) in evaluation. The paper leaves out a branch for the whole batch, and
multiplies it by 1 - p_l in evaluation instead: the same mean, other scales. Chance is torch's
global generator, as for dropout. No key of the state dict changes.

Source: Huang et al. 2016, arXiv:1603.09382, eq. 2 and 4 (linear decay).
"""

from torch import nn

from kdprobe.errors import InputError
from kdprobe.models.transforms.contract import transform
from kdprobe.models.transforms.strip_skips import residual_blocks


@transform(
    "stochastic_depth",
    title="residual branches left out by chance in training",
    source="Huang et al. 2016, arXiv:1603.09382",
)
def stochastic_depth(body: nn.Module, *, p: float = 0.2) -> nn.Module:
    """Leave out the last branch of `body` with probability `p`, earlier ones more seldom.

    Raises:
        InputError: `p` is no such probability, or nothing in `body` is added.
    """
    if not 0 <= p < 1:
        raise InputError(f"found p={p}; wanted a probability from 0 up to, not with, 1; take 0.2")
    blocks = residual_blocks(body)
    for i, block in enumerate(blocks):
        block.dropped = p * (i + 1) / len(blocks)
    return body
