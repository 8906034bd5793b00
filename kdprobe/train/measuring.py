"""How good is a network now?  Accuracy, likelihood, calibration, and how like its teacher it is.

Axes: n images, c classes, b bins.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 15  # of the expected calibration error
FIRST = 5  # answers that count for top-5


def measured(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Of (n, c) logits: loss in nats, shares of right answers, calibration error in [0, 1]."""
    best = logits.topk(min(FIRST, logits.shape[1]), dim=1).indices
    hits = best == labels[:, None]
    found = torch.stack(
        [
            F.cross_entropy(logits, labels).double(),
            hits[:, 0].double().mean(),
            hits.any(1).double().mean(),
            calibration_error(logits, hits[:, 0]),
        ]
    ).tolist()
    return dict(zip(("loss", "accuracy", "top5", "ece"), found, strict=True))


def calibration_error(logits: Tensor, right: Tensor) -> Tensor:
    """Sum over equally wide bins of |right - certain| / n, double: the expected calibration error.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    certain = logits.softmax(1).amax(1).double()
    bins = (certain * BINS).nan_to_num().long().clamp(max=BINS - 1)
    gaps = torch.zeros(BINS, dtype=torch.float64, device=logits.device)
    gaps.index_add_(0, bins, right.double() - certain)
    return gaps.abs().sum() / len(logits)


def likeness(logits: Tensor, teacher: Tensor) -> dict[str, float]:
    """Share of equal answers, and KL(teacher || student) in nats at T = 1, of (n, c) logits."""
    logs = (logits.log_softmax(1), teacher.log_softmax(1))
    apart = F.kl_div(*logs, reduction="batchmean", log_target=True)
    same = (logits.argmax(1) == teacher.argmax(1)).double().mean()
    agreement, divergence = torch.stack([same, apart.double()]).tolist()
    return {"agreement": agreement, "teacher_kl": divergence}


def named(prefix: str, numbers: dict[str, float] | None, keys: tuple[str, ...]) -> dict[str, Any]:
    """``{"test_loss": ..., ...}``; None where nothing was measured."""
    return {f"{prefix}_{key}": None if numbers is None else numbers[key] for key in keys}
