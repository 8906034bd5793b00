"""What if labels are wrong?  Each is replaced with probability p, whatever the image.

    uniform     by one drawn from all K classes, the true one too: p (K-1)/K of the labels change
    symmetric   by one drawn from the K-1 others: p of them change
    pair        by the next class, y -> y + 1 mod K: p of them change

With one seed, a higher rate keeps the flips of a lower one and adds to them.

Source: uniform: Zhang et al. 2017, arXiv:1611.03530, section 2 ("partially corrupted labels");
symmetric and pair: Han et al. 2018, arXiv:1804.06872, appendix A.
"""

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.corruptions.contract import Taken, corruption

KINDS = ("uniform", "symmetric", "pair")


@corruption(
    "label_noise",
    title="Wrong labels: uniform over all classes, over the others, or the next class",
    source="arXiv:1611.03530, section 2; arXiv:1804.06872, appendix A",
)
def label_noise(
    labels: Tensor,
    classes: int,
    chance: torch.Generator,
    *,
    rate: float = 0.4,
    kind: str = "uniform",
) -> Taken:
    """All images, with labels that are replaced with probability `rate`.

    Raises:
        InputError: `rate` is not from 0 to 1, `kind` is unknown, or there is one class only.
    """
    if isinstance(rate, (bool, str)) or not 0 <= rate <= 1:
        raise InputError(f"found rate={rate!r}; wanted a share of the labels, from 0 to 1")
    if kind not in KINDS:
        raise InputError(f'found kind={kind!r}; wanted "uniform", "symmetric" or "pair"')
    if classes < 2:
        raise InputError(f"found {classes} class; wanted at least 2, to take a label for another")
    flipped = torch.rand(len(labels), generator=chance, dtype=torch.float64) < rate
    drawn = torch.rand(len(labels), generator=chance, dtype=torch.float64)
    if kind == "uniform":
        wrong = (drawn * classes).long()
    else:
        step = 1 + (drawn * (classes - 1)).long() if kind == "symmetric" else 1
        wrong = (labels + step) % classes
    return Taken(torch.arange(len(labels)), torch.where(flipped, wrong, labels))
