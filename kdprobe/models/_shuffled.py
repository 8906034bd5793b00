"""How do groups of channels learn of each other?  Channels are dealt out anew, like cards.

Source: Zhang et al. 2018, arXiv:1707.01083, section 3.1.

Axes: n images, d channels, h and w pixels.
"""

from torch import Tensor


def shuffled(x: Tensor, groups: int) -> Tensor:
    """(n, d, h, w) -> the same, channel i of group g at place i * groups + g."""
    n, d, h, w = x.shape
    return x.reshape(n, groups, d // groups, h, w).transpose(1, 2).reshape(n, d, h, w)
