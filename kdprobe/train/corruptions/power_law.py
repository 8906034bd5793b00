"""What if some classes are rare?  The number of images falls with the class by a power law.

    n_c = round( a / (b + c^gamma) ),  c = 1 ... K                       K classes
    b = (least K^gamma - most) / (most - least),  a = most (1 + b)

so that n_1 = most and n_K = least. A smaller gamma is harsher: of 5,000 to 250 images in ten
classes, gamma = 0.2 leaves 858 in the second, gamma = 2 leaves 3,173. The first n_c images of each
class are kept; the test set stays as it is.

Source: F. Sarfraz, E. Arani and B. Zonooz 2020, Knowledge Distillation Beyond Model Compression,
arXiv:2007.01922, and the authors' code.
"""

import math

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.corruptions.contract import Taken, corruption
from kdprobe.train.holding import places_in_class

RARE = 20  # times fewer images in the last class than in the first, where nothing else is said


@corruption(
    "power_law",
    title="Rare classes: their numbers of images fall by a power law",
    source="arXiv:2007.01922, and the authors' code",
)
def power_law(
    labels: Tensor,
    classes: int,
    chance: torch.Generator,
    *,
    gamma: float = 1.0,
    most: int | None = None,
    least: int | None = None,
) -> Taken:
    """The first n_c images of each class c. Nothing is drawn.

    `most` is by default what the smallest class has, `least` a twentieth of `most`.

    Raises:
        InputError: `gamma` is not above 0, not 1 <= least <= most, or a class has too few images.
    """
    there = labels.bincount(minlength=classes)
    most = int(there.min()) if most is None else most
    counts = torch.tensor(
        numbers(classes, gamma, most, max(most // RARE, 1) if least is None else least)
    )
    short = (there < counts).nonzero().flatten().tolist()
    if short:
        few = ", ".join(
            f"{int(there[c])} of class {c} ({int(counts[c])} wanted)" for c in short[:5]
        )
        raise InputError(
            f"found too few images in {len(short)} of {classes} classes: {few}; wanted as many as "
            "the power law keeps: lower most= or least="
        )
    places = places_in_class(labels, torch.arange(len(labels)))
    rows = (places < counts[labels]).nonzero().squeeze(1)
    return Taken(rows, labels[rows])


def numbers(classes: int, gamma: float, most: int, least: int) -> list[int]:
    """n_c of every class, by the formula above divided by K^gamma, which no gamma overflows."""
    if isinstance(gamma, (bool, str)) or not 0 < gamma < math.inf:
        raise InputError(f"found gamma={gamma!r}; wanted a power above 0")
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (most, least))
    if not whole or not 1 <= least <= most:
        raise InputError(
            f"found most={most!r} and least={least!r} images in a class; wanted whole numbers with "
            "1 <= least <= most"
        )
    if most == least or classes == 1:
        return [most] * classes
    end = classes**-gamma
    falls = (
        least - most * end + (most - least) * (c / classes) ** gamma for c in range(1, classes + 1)
    )
    return [round(most * least * (1 - end) / fall) for fall in falls]
