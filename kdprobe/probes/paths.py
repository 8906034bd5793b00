"""Is there a hill between two solutions?  Cross-entropy on the straight way from one to the other.

    w(t) = (1 - t) w_1 + t w_2

with two answers for BatchNorm: statistics found anew at every place, on one half of the images
without their labels, the loss taken on the other half; and statistics interpolated as weights are.
Whatever is counted in whole numbers stays that of the first. The network ends as it began.

Source: Frankle et al. 2020, arXiv:1912.05671 (error on the linear path); Jordan et al. 2023,
arXiv:2211.08403 (statistics of an interpolated network).

Axes: n images of a half, p places.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.probes.contract import probe
from kdprobe.probes.directions import differences, gram
from kdprobe.probes.lens import Lens
from kdprobe.probes.walking import halves, loss_of, norms_of, settling, walk
from kdprobe.study import Checkpoint


@probe("path", version=1)
@torch.no_grad()
def path(subjects: Sequence[Checkpoint], lens: Lens, *, points: int) -> Mapping[str, Tensor]:
    """Returns steps (p,) from 0 to 1, anew and interpolated (p, n) nats of every image, distance ()
    between the weights, and norms (), how many BatchNorms there are.
    """
    network, other = (lens.network(subject) for subject in subjects)
    (way,) = differences([other.body], network.body)
    quiet, asked = halves(lens.images)
    loss = loss_of(subjects[0], lens, network, asked)
    settle = settling(network, quiet.pixels.to(lens.device), lens.rows(network, quiet))
    steps = torch.linspace(0, 1, points)
    places = [[(step, way)] for step in steps.tolist()]
    interpolated = walk(network, places, loss)
    return {
        "steps": steps,
        "interpolated": interpolated,
        "anew": interpolated if settle is None else walk(network, places, loss, settle),
        "distance": gram([way], network.body).sqrt()[0, 0],
        "norms": torch.tensor(len(norms_of(network))),
    }
