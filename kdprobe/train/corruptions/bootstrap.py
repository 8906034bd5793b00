"""How much hangs on these very images?  As many again, drawn with replacement.

On average a share (1 - 1/n)^n, about 1/e, of n images is not drawn at all.

Source: B. Efron 1979, Bootstrap Methods: Another Look at the Jackknife, section 2.
"""

import torch
from torch import Tensor

from kdprobe.train.corruptions.contract import Taken, corruption


@corruption(
    "bootstrap",
    title="As many images, drawn with replacement",
    source="Efron 1979, section 2",
)
def bootstrap(labels: Tensor, classes: int, chance: torch.Generator) -> Taken:
    """n of n images, some more than once, in rising order."""
    rows = torch.randint(len(labels), (len(labels),), generator=chance).sort().values
    return Taken(rows, labels[rows])
