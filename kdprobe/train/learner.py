"""A run in training: its networks, its losses, its optimiser, and how far it has walked.

Axes: n images, c classes, m networks, t terms of the loss, p parameters.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.loading import build
from kdprobe.manifest import NetworkEntry
from kdprobe.models.contract import Network
from kdprobe.train.chance import drawn_from
from kdprobe.train.crowd import Crowd
from kdprobe.train.layout import laid_out
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs
from kdprobe.train.objective import Objective, sent
from kdprobe.train.paths import PathLength
from kdprobe.train.plan import RunPlan
from kdprobe.train.settings import Optimizer
from kdprobe.train.techniques.contract import Working, techniques_of

Wrap = Callable[[nn.Module], nn.Module]


class Member:
    """One network of a run, with a folder of its own."""

    def __init__(self, id: str, network: Network, techniques: Sequence[Working], how: Optimizer):
        self.id, self.network, self.techniques = id, network, tuple(techniques)
        self.path = PathLength(network.body)
        self.begin = [weight.detach().clone() for weight in network.body.parameters()]
        self._decay = how.ema
        self._average = deepcopy(network).requires_grad_(False) if how.ema else None

    @property
    def shown(self) -> Network:
        """The network that is measured and saved: itself, or the average of its weights."""
        if self._average is None:
            return self.network
        for average, now in zip(self._average.buffers(), self.network.buffers(), strict=True):
            average.copy_(now)
        return self._average

    @property
    def average(self) -> Network | None:
        """The averaged weights, where the recipe asks for them."""
        return self._average

    def moved(self) -> None:
        """After each step: count its length, and let the average follow."""
        self.path.walk()
        if self._average is not None and self._decay is not None:
            now = [weight.detach() for weight in self.network.parameters()]
            torch._foreach_lerp_(list(self._average.parameters()), now, 1 - self._decay)

    def plain_state(self) -> dict[str, Tensor]:
        """The weights as the network of the entry has them, for a checkpoint."""
        state: Any = self.shown.body.state_dict()
        for technique in self.techniques:
            state = technique.plain(state)
        return dict(state)


class Learner:
    """One run of a cohort. Same seed and same model: same initial weights, bit for bit."""

    def __init__(
        self,
        run: RunPlan,
        entry: NetworkEntry,
        seed: int,
        device: torch.device,
        how: Optimizer,
        begin: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self.run, self.entry, self.how = run, entry, how
        made = [_made(place, run, entry, seed, device, begin) for place in range(run.together)]
        with drawn_from(seed, "weights of the loss"):
            objective = Objective(run.stages, run.together).to(device)
        self.crowd = Crowd([network for network, _ in made], objective, run.share, how)
        # After the crowd: what is shared is then counted and averaged as the weights of each.
        self.members = [
            Member(name, network, working, how)
            for name, (network, working) in zip(run.members, made, strict=True)
        ]
        self.module: nn.Module = self.crowd
        self.stage, self.stopped, self.processes = 0, False, 1
        self.over = -1  # the last epoch that counts, because its state is kept; -1 = none
        self.notes = torch.zeros(0, len(self.members), 0)  # (steps, m, 2 t + 3) of this epoch
        self.slopes: dict[str, Any] = {}  # of the terms, where this epoch was looked at
        self._device, self._seed = device, seed

    @property
    def looks_at_teacher(self) -> bool:
        """Whether a term of the present stage needs one."""
        terms = self.run.stages[self.stage].terms
        return any(LOSSES[term.name].needs_teacher for term in terms)

    def meet(self, batch: Batch, teacher: Outputs | None, wrap: Wrap | None = None) -> None:
        """Make the weights of the losses and the optimiser; draws nothing that others see."""
        with drawn_from(self._seed, "weights of the loss"), torch.no_grad():
            self._train_mode(False)
            self.crowd.objective.meet(self.crowd.look(batch), teacher)
        self.crowd.objective.to(self._device)
        self.weights = list(self.crowd.parameters())
        self.optimizer = _optimizer(self.weights, self.how, self.run.weight_decay)
        half = self.how.autocast == "float16"
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=half)
        if wrap is not None:
            for member in self.members:  # what stands still when it is wrapped is never exchanged
                member.network.body.requires_grad_(True)
            self.module = wrap(self.crowd)

    def begin_epoch(self, epoch: int, steps: int) -> None:
        """Take the stage of `epoch`; train mode, but for what stands still."""
        self.slopes = {}
        self.stage = self.run.stage(epoch)
        self._train_mode(True)
        terms = len(self.run.stages[self.stage].terms)
        shape = (steps, len(self.members), 2 * terms + 3)
        self.notes = torch.zeros(shape, dtype=torch.float64, device=self._device)

    def end_epoch(self, epoch: int, total: int) -> None:
        """Let the techniques know of the last moment of the training."""
        if epoch == total:
            for member in self.members:
                for technique in member.techniques:
                    technique.before_step(member.network.body, total, total)

    def _train_mode(self, on: bool) -> None:
        self.crowd.train(on)
        frozen = self.run.stages[self.stage].freeze
        for member in self.members:
            for name, weight in member.network.body.named_parameters():
                weight.requires_grad_(not _inside(name, frozen))
            for path in frozen:
                member.network.body.get_submodule(path).eval()

    def learn(
        self,
        step: int,
        parts: Sequence[tuple[Batch, Tensor, Outputs | None]],
        whole: int,
        *,
        lr: float,
        passed: float,
        total: int,
    ) -> None:
        """One optimiser step on `parts` of a batch of `whole` images; nothing is read back."""
        for member in self.members:
            for technique in member.techniques:
                technique.before_step(member.network.body, passed, total)
        weights = self.crowd.objective.weights(self.stage, passed, total)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        for place, (batch, target, teacher) in enumerate(parts):
            last = place == len(parts) - 1
            with _unsynchronised(self.module, not last):
                values, logits = self.module(self.stage, weights, batch, teacher, target)
                weighted = values * sent(weights, values.dtype, values.device)
                totals = weighted.sum(1)  # (m,)
                share = self.processes * len(target) / whole  # their mean is then the batch's
                if totals.requires_grad:  # not where all is frozen, or all terms weigh nothing now
                    self.scaler.scale(totals.sum() * share).backward()
            self._note(step, values.detach(), weighted.detach(), logits.detach(), target)
        self._move(step)

    def _move(self, step: int) -> None:
        if any(weight.grad is not None for weight in self.weights):
            self.scaler.unscale_(self.optimizer)
            slopes = [weight.grad for weight in self.weights if weight.grad is not None]
            length = torch.nn.utils.get_total_norm(slopes)
            if self.how.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.weights, self.how.clip, length)
            self.notes[step, :, -1] = length
            self.scaler.step(self.optimizer)
            self.scaler.update()
        for member in self.members:
            member.moved()

    def _note(
        self, step: int, values: Tensor, weighted: Tensor, logits: Tensor, target: Tensor
    ) -> None:
        """Sums over images of the terms, the loss, the right answers, and the weighted terms."""
        labels = target if target.dim() == 1 else target.argmax(1)
        right = (logits.argmax(2) == labels).double().mean(1)
        total = weighted.sum(1).double()[:, None]
        seen = torch.cat([values.double(), total, right[:, None], weighted.double()], 1)
        self.notes[step, :, :-1] += seen * len(target)


def _made(
    place: int,
    run: RunPlan,
    entry: NetworkEntry,
    seed: int,
    device: torch.device,
    begin: Callable[[nn.Module], None] | None,
) -> tuple[Network, Sequence[Working]]:
    """The first network of a run starts as those of other arms do, each further one elsewhere."""
    with drawn_from(seed, "weights" if place == 0 else f"weights of network {place}"):
        network = build(entry)
    if begin is not None:
        begin(network.body)
    working = techniques_of(run.techniques)
    for technique in working:
        technique.attach(network.body)
    return laid_out(network.to(device)), working


def _optimizer(weights: Sequence[nn.Parameter], how: Optimizer, decay: float) -> Any:
    """With a state as after no step, so that it is there to be saved and restored."""
    made: torch.optim.Optimizer
    names: tuple[str, ...]
    if how.method == "sgd":
        made = torch.optim.SGD(
            weights,
            lr=how.lr,
            momentum=how.momentum,
            weight_decay=decay,
            nesterov=how.nesterov,
            foreach=True,
        )
        names = ("momentum_buffer",) if how.momentum else ()
    else:
        kind = torch.optim.Adam if how.method == "adam" else torch.optim.AdamW
        betas = (how.momentum, 0.999)
        made = kind(weights, lr=how.lr, betas=betas, weight_decay=decay, foreach=True)
        names = ("exp_avg", "exp_avg_sq")
    for weight in weights:
        made.state[weight] |= {name: torch.zeros_like(weight) for name in names}
        if how.method != "sgd":
            made.state[weight]["step"] = torch.tensor(0.0)
    return made


def _inside(name: str, paths: Sequence[str]) -> bool:
    return any(not path or name.startswith(f"{path}.") for path in paths)


def _unsynchronised(module: nn.Module, wanted: bool) -> Any:
    """Gradients of all but the last part are not exchanged between processes."""
    apart: Callable[[], Any] | None = getattr(module, "no_sync", None)
    return apart() if wanted and apart is not None else nullcontext()
