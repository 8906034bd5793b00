"""What if there are fewer images?  A share of every class, drawn by chance, at least one image.

    m_c = max(1, round(share n_c))      n_c: images of class c

With one seed, a larger share keeps the images of a smaller one and adds to them.
"""

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.corruptions.contract import Taken, corruption
from kdprobe.train.holding import places_in_class


@corruption("fraction", title="Fewer images: a share of every class", source="bundled")
def fraction(labels: Tensor, classes: int, chance: torch.Generator, *, share: float = 0.1) -> Taken:
    """`share` of the images of each class, in their old order.

    Raises:
        InputError: `share` is not above 0 and at most 1.
    """
    if isinstance(share, (bool, str)) or not 0 < share <= 1:
        raise InputError(f"found share={share!r}; wanted a share of the images, above 0, at most 1")
    order = torch.randperm(len(labels), generator=chance)
    kept = (share * labels.bincount().double()).round().clamp_min(1)
    rows = (places_in_class(labels, order) < kept[labels]).nonzero().squeeze(1)
    return Taken(rows, labels[rows])
