"""Do the terms of a loss pull together?  Length of each one's gradient, and its angle with CE's.

On the first batch of an epoch (of a batch in parts, the first part), before the step, over all
weights of the networks. The cosine is that of the term's gradient with the gradient of a plain
cross-entropy on the same logits. Of several processes each looks at its own images, and what is
told is the mean over all images, as it moves the weights: the whole batch's, but for losses that
relate images, which see those of their process, and for BatchNorm, whose statistics are each one's.

Axes: t terms, p parameters.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.restore import lent
from kdprobe.train.learner import Learner
from kdprobe.train.losses.contract import Batch, Outputs
from kdprobe.train.processes import Processes


def term_slopes(
    learner: Learner, part: tuple[Batch, Tensor, Outputs | None], passed: float, total: int
) -> dict[str, Any]:
    """``{"gradients": {term: {"norm", "cosine"}}}``, weights of the terms left out.

    None as the cosine where one of the two has no length. The networks' statistics and torch's
    random state are given back.
    """
    batch, target, teacher = part
    weights = [term.weight and 1.0 for term in learner.run.stages[learner.stage].terms]
    wanted = [w for w in learner.crowd.networks.parameters() if w.requires_grad]
    with lent(learner.crowd):
        torch.manual_seed(batch.seed)
        values, logits = learner.crowd(learner.stage, weights, batch, teacher, target)
        every = logits.flatten(0, 1).float()
        plain = _flat(F.cross_entropy(every, _repeated(target, logits)), wanted)
        rows = [plain, *(_flat(value, wanted) for value in values.sum(0))]
    plain, *rows = _over_all(learner, torch.stack(rows), len(target))
    labels = [term.label for term in learner.run.stages[learner.stage].terms]
    numbers = [_told(row, plain) for row in rows]
    return {"gradients": dict(zip(labels, numbers, strict=True))}


def _over_all(learner: Learner, rows: Tensor, images: int) -> Tensor:
    """(t + 1, p) gradients of means over the `images` here -> over those of all processes."""
    if learner.processes == 1:
        return rows
    every = Processes(count=learner.processes)
    count = every.summed(torch.tensor(float(images), device=rows.device))
    return every.summed(rows * (images / count))


def _repeated(target: Tensor, logits: Tensor) -> Tensor:
    """The target once for each network."""
    return target.repeat(len(logits), *(1 for _ in target.shape[1:]))


def _flat(value: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """(p,) the gradient of `value`, 0 where it does not depend on a weight."""
    if not value.requires_grad:
        return torch.zeros(sum(w.numel() for w in weights), device=value.device)
    slopes = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    parts = zip(slopes, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if s is None else s).flatten() for s, w in parts])


def _told(row: Tensor, plain: Tensor) -> dict[str, float | None]:
    norm, other, product = torch.stack([row.norm(), plain.norm(), row @ plain]).tolist()
    return {"norm": norm, "cosine": product / (norm * other) if norm and other else None}
