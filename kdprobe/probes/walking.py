"""What is the loss from place to place?  A network is moved about, and put back where it was.

A place is a sum of steps along directions from where the network stands. At every place the loss
is asked of a copy of which the BatchNorms are folded into the convolutions; that it answers as the
network itself does is checked at the network's own place and at the first one that it is moved to,
and where it does not, or nothing can be folded, the network answers itself.

Axes: n images, p places.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdprobe.batches import in_batches
from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError, UsageError
from kdprobe.models.contract import Network
from kdprobe.probes.directions import Direction, moving
from kdprobe.probes.folding import NORMS, Follower, foldable
from kdprobe.probes.lens import Lens
from kdprobe.restore import lent
from kdprobe.study import Checkpoint
from kdprobe.taps import Tap

PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
ROWS = 32  # images at once on a CPU: what a layer puts out stays in the cache, also without grad
CLOSE = 1e-4  # of the largest loss of an image
Place = Sequence[tuple[float, Direction]]


class Loss:
    """The cross-entropy (n,) of every image, nats, of a network as it stands when this is called.

    `off` is the largest relative error of the mean that the checks have found.
    """

    def __init__(
        self, network: Network, images: Images, device: torch.device, rows: int, precision: str
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"found precision {precision!r}; wanted {', '.join(PRECISIONS)}")
        self.off = 0.0
        self._network, self._rows = network, rows
        self._pixels, self._labels = images.pixels.to(device), images.labels.to(device)
        self._dtype = PRECISIONS[precision]
        self._checks = 2
        pairs = foldable(network, {"logits": Tap("", "raw")}, self._pixels)
        self._follower = (
            Follower(network, pairs, self._dtype) if pairs or self._dtype is not None else None
        )
        if self._follower is not None and self._pixels.dim() == 4:
            self._pixels = self._pixels.contiguous(memory_format=torch.channels_last)
        self._begin(precision)

    def _begin(self, precision: str) -> None:
        """The first of the checks, at the network's own place."""
        try:
            self()
        except (RuntimeError, InputError) as error:
            if self._dtype is None:
                raise
            raise InputError(
                f"found that the network cannot run in {precision} ({error}); wanted operations "
                "that can: set precision to float32"
            ) from error

    def __call__(self) -> Tensor:
        if self._follower is None:
            return self._of(self._network)
        self._follower.follow()
        found = self._of(self._follower.lean)
        return self._checked(found) if self._checks else found

    def _of(self, network: nn.Module) -> Tensor:
        def losses(some: slice) -> Tensor:
            logits = network(self._pixels[some]).to(self._network.mean.dtype)
            return cross_entropy(logits, self._labels[some], reduction="none")

        return torch.cat(in_batches(losses, len(self._pixels), self._rows))

    def _checked(self, found: Tensor) -> Tensor:
        """`found`, or where it is wrong the network's own answer, from now on."""
        self._checks -= 1
        wanted = self._of(self._network)
        largest = float(wanted.nan_to_num(0.0, 0.0, 0.0).abs().max())
        close = torch.allclose(found, wanted, CLOSE, CLOSE * largest, equal_nan=True)
        if self._dtype is None and not close:
            self._follower, self.off = None, 0.0
            return wanted
        one, other = float(found.double().mean()), float(wanted.double().mean())
        if math.isfinite(one - other):
            self.off = max(self.off, abs(one - other) / max(abs(other), CLOSE**2))
        return found


def loss_of(
    subject: Checkpoint,
    lens: Lens,
    network: Network,
    images: Images | None = None,
    precision: str = "float32",
) -> Loss:
    """The loss of `network` on `images`, or on the lens's sample."""
    chosen = lens.images if images is None else images
    lens.must_have_classes(subject, chosen)
    rows = lens.rows(network, chosen)
    most = rows if lens.device.type == "cuda" else min(rows, ROWS)
    return Loss(network, chosen, lens.device, most, precision)


@torch.no_grad()
def walk(
    network: Network,
    places: Iterable[Place],
    loss: Callable[[], Tensor],
    settle: Callable[[], None] | None = None,
) -> Tensor:
    """(p, n) what `loss` says at every place; `settle` is called there before it."""
    with lent(network):
        now = moving(network.body)
        start = {name: value.clone() for name, value in now.items()}
        losses = []
        for place in places:
            for name, value in now.items():
                value.copy_(start[name])
            for step, way in place:
                for name, change in way.items():
                    now[name].add_(change, alpha=step)
            if settle is not None:
                settle()
            losses.append(loss())
    return torch.stack(losses).cpu()


def mean(losses: Tensor) -> Tensor:
    """(p, n) of single images -> (p,) float32, added up in float64."""
    return losses.double().mean(-1).float()


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The modules whose statistics depend on the weights before them."""
    found = [module for module in network.modules() if isinstance(module, NORMS)]
    return [norm for norm in found if norm.running_mean is not None]  # type: ignore[misc]  # of any number of axes


def settling(network: Network, pixels: Tensor, rows: int) -> Callable[[], None] | None:
    """A function that gives BatchNorms the statistics of `pixels`; None where there are none.

    Means over batches of nearly equal size of at most `rows`, one forward pass, no labels. Only
    the BatchNorms are in training mode meanwhile, so that nothing is dropped.

    Raises:
        InputError: there are fewer than two images.
    """
    norms = norms_of(network)
    if not norms:
        return None
    if len(pixels) < 2:
        raise InputError(
            f"found {len(pixels)} images for the statistics of BatchNorm; wanted at least 2: "
            "choose more images"
        )
    batches = torch.tensor_split(pixels, math.ceil(len(pixels) / max(rows, 2)))

    @torch.no_grad()
    def settle() -> None:
        before = [(norm.training, norm.momentum) for norm in norms]
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
                norm.train()
            for batch in batches:
                network(batch)
        finally:
            for norm, (mode, momentum) in zip(norms, before, strict=True):
                norm.momentum = momentum
                norm.train(mode)

    return settle


def halves(images: Images) -> tuple[Images, Images]:
    """Every second image for statistics, the others for the loss.

    Raises:
        InputError: there are fewer than four images.
    """
    if len(images) < 4:
        raise InputError(
            f"found {len(images)} images; wanted at least 4: half of them give BatchNorm its "
            "statistics, the other half the loss"
        )
    rows = torch.arange(len(images))
    return images.take(rows[0::2]), images.take(rows[1::2])
