"""A network in training: its weights, its loss, its optimiser, and how far it has walked.

Axes: n images, c classes, t terms of the loss.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from kdprobe.loading import build
from kdprobe.manifest import NetworkEntry
from kdprobe.models.contract import Network
from kdprobe.taps import Tap, find_taps, watch
from kdprobe.train.chance import drawn_from
from kdprobe.train.expression import Term
from kdprobe.train.losses.contract import LOSSES, Outputs
from kdprobe.train.paths import PathLength
from kdprobe.train.plan import RunPlan, layers_of
from kdprobe.train.settings import Optimizer
from kdprobe.train.views import Split


class Objective(nn.Module):
    """The sum of weighted losses of a loss expression."""

    weights: Tensor

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(LOSSES[term.name].make(**dict(term.knobs)) for term in terms)
        weights = torch.tensor([term.weight for term in terms])
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """(t,) values of the terms, not weighted."""
        return torch.stack([loss(student, teacher, target) for loss in self.losses])


class Learner:
    """One run of a cohort. Same seed and same model: same initial weights, bit for bit."""

    def __init__(
        self, run: RunPlan, entry: NetworkEntry, seed: int, device: torch.device, how: Optimizer
    ) -> None:
        self.run, self.entry = run, entry
        with drawn_from(seed, "weights"):
            self.network = laid_out(build(entry).to(device))
        with drawn_from(seed, "weights of the loss"):
            self.objective = Objective(run.terms).to(device)
        self.taps = taps_of(self.network, run)
        self.path = PathLength(self.network.body)
        weights = [*self.network.body.parameters(), *self.objective.parameters()]
        self.optimizer = _optimizer(weights, how)
        self.tally = torch.zeros(len(run.terms) + 2, dtype=torch.float64, device=device)

    def step(self, batch: Split, teacher: Outputs | None, lr: float) -> None:
        """Learn from one batch; losses are tallied on the device, nothing is read back."""
        ours = look(self.network, self.taps, batch.pixels)
        # Without a teacher no term looks at it: faults.py has made sure.
        terms = self.objective(ours, teacher or ours, batch.labels)
        total = (terms * self.objective.weights).sum()
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.path.walk()
        right = (ours.logits.detach().argmax(1) == batch.labels).double().mean()
        seen = torch.stack([*terms.detach().double(), total.detach().double(), right])
        self.tally += seen * len(batch.labels)


def _optimizer(weights: Sequence[nn.Parameter], how: Optimizer) -> torch.optim.SGD:
    made = torch.optim.SGD(
        weights,
        lr=how.lr,
        momentum=how.momentum,
        weight_decay=how.weight_decay,
        nesterov=how.nesterov,
        foreach=True,
    )
    if how.momentum:  # as SGD does in its first step, but already there to be saved and restored
        for weight in weights:
            made.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return made


def laid_out(network: Network) -> Network:
    """The same network with channels last in memory: a third faster on a CPU, measured."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stub
    return network


def taps_of(network: Network, run: RunPlan) -> dict[str, Tap]:
    """The layers that the run's losses read, found in `network`; the logits need no tap."""
    layers = {layer: None for term in run.terms for layer in layers_of(term)}
    return find_taps(network.body, [layer for layer in layers if layer != "logits"])


def look(network: Network, taps: Mapping[str, Tap], pixels: Tensor) -> Outputs:
    """(n, 3, h, w) pixels in [0, 1] -> logits and tapped layers, in the autograd graph."""
    with watch(network.body, taps) as seen:
        logits = network(pixels.contiguous(memory_format=torch.channels_last))
    return Outputs(logits, dict(seen))
