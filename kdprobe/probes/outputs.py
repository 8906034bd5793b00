"""What do the networks answer?  Logits of one checkpoint for every image of the sample."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.batches import in_batches
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint


@probe("outputs", version=1)
@torch.no_grad()
def outputs(subjects: Sequence[Checkpoint], lens: Lens) -> Mapping[str, Tensor]:
    """Returns logits (n, c) and labels (n,)."""
    images, network = lens.images, lens.network(subjects[0])
    lens.must_have_classes(subjects[0], images)

    def answer(rows: slice) -> Tensor:
        logits: Tensor = network(images.pixels[rows].to(lens.device))
        return logits

    parts = in_batches(answer, len(images), lens.rows(network, images))
    return {"logits": torch.cat(parts).cpu(), "labels": images.labels}
