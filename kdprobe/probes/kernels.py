"""How alike does each layer find any two images?  One centred kernel matrix a layer.

    linear  K_ij = <x_i, x_j>
    rbf     K_ij = exp(-|x_i - x_j|^2 / (2 w^2)),   w = bandwidth * median distance of two images

Features are centred before their products are taken, so that a common offset of a layer costs no
digits, and inside the hook, so that no copy of them is kept. Then the matrix itself is centred:
debiased (diagonal zero, rows sum to zero), or biased (H K H). It is scaled so that the inner
product of two such matrices is their HSIC.

Source: Kornblith et al. 2019, arXiv:1905.00414, section 3; Song et al. 2012, equation 4; Szekely
and Rizzo 2014, equation 2.1 (centring without bias).

Axes: n images of a batch, l layers, d features.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdprobe.batches import budget, in_batches
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import Outputs, Tap, find_taps, flat

ROUNDING = 32  # units in the last place: a layer that varies less gives every image the same


@dataclass(frozen=True)
class Kernel:
    """Which kernel, how it is centred, and in how many bits it is reckoned."""

    kind: str = "linear"  # or rbf
    bandwidth: float = 0.8  # rbf: of the median distance
    estimator: str = "debiased"  # or biased
    precision: str = "float32"  # or bf16: forward passes and Grams

    def of(self, grams: Tensor) -> Tensor:
        """(l, n, n) linear Grams -> (l, n, n) kernels, not centred."""
        grams = grams.double()
        return rbf(grams, self.bandwidth) if self.kind == "rbf" else grams

    def centred(self, kernels: Tensor) -> Tensor:
        """(l, n, n) -> (l, n * n): the inner product of two rows is their HSIC."""
        n = kernels.shape[-1]
        if self.estimator == "biased":
            return twice_centred(kernels).flatten(1).div(n - 1)
        return u_centred(kernels).flatten(1).div(math.sqrt(n * (n - 3)))


@dataclass(frozen=True)
class Tapped:
    """A network, and where it is looked into."""

    network: Network
    taps: Mapping[str, Tap]
    sizes: Mapping[str, int]  # numbers that a tap puts out for one image
    rows: int  # images that one forward pass may hold

    def grams(self, pixels: Tensor, *, bf16: bool = False) -> Tensor:
        """(l, n, n): the linear Gram of every tap for `pixels` (n, ...), one batch of the
        statistic.

        A network that cannot hold the whole batch sees it in parts, and once more for every
        further group of layers whose features do not fit in memory together.
        """
        n, found = len(pixels), []
        for group in self._groups(n, budget(pixels.device)):

            def part(some: slice, group: Mapping[str, Tap] = group) -> dict[str, Tensor]:
                whole = some.stop - some.start == n
                seen = Grams(bf16=bf16, whole=whole)
                with watching(self.network.body, seen, group):
                    self._pass(pixels[some], bf16=bf16)
                    return {name: seen[name] for name in group}

            parts = in_batches(part, n, self.rows)
            for name in group:
                pieces = [piece.pop(name) for piece in parts]
                found.append(pieces[0] if len(pieces) == 1 else gram(torch.cat(pieces), bf16=bf16))
        return torch.stack(found)

    def _pass(self, pixels: Tensor, *, bf16: bool) -> None:
        cast = torch.autocast(pixels.device.type, torch.bfloat16) if bf16 else nullcontext()
        with cast:
            self.network(pixels)

    def _groups(self, images: int, memory: int) -> Iterator[dict[str, Tap]]:
        """Taps in order, parted so that the features of each group fit into `memory` bytes."""
        group: dict[str, Tap] = {}
        used = 0
        for name, tap in self.taps.items():
            size = 4 * images * self.sizes[name]
            if group and used + size > memory:
                yield group
                group, used = {}, 0
            group[name] = tap
            used += size
        yield group


def tapped(checkpoint: Checkpoint, layers: tuple[str, ...], lens: Lens) -> Tapped:
    """The network of `checkpoint` with its `layers`, which are tried on two images.

    Raises:
        InputError: the network or a layer cannot be looked at.
    """
    network, images = lens.network(checkpoint), lens.images
    taps = find_taps(network.body, layers)
    two = images.pixels[:2].to(lens.device)
    seen = Outputs()
    with watching(network.body, seen, taps):
        network(two)
        sizes = {name: _size(name, seen[name], len(two)) for name in taps}
    return Tapped(network, taps, sizes, lens.rows(network, images))


def _size(name: str, output: Tensor, images: int) -> int:
    if output.dim() == 0 or len(output) != images:
        raise InputError(
            f"layer {name!r} puts out a tensor of shape {tuple(output.shape)} for {images} images; "
            "wanted one row an image: choose another layer"
        )
    return output.numel() // images


class Grams(Outputs):
    """Outputs of which only the Gram, or a flat copy where the batch comes in parts, is kept."""

    def __init__(self, *, bf16: bool, whole: bool) -> None:
        super().__init__()
        self.bf16, self.whole = bf16, whole

    def record(self, name: str, output: object) -> None:
        """Reduce at once: a later in-place operation cannot change what was seen."""
        if not isinstance(output, Tensor) or name in self:
            super().record(name, output)  # refuses both
        elif self.whole:
            self[name] = gram(flat(output), bf16=self.bf16)
        else:
            self[name] = flat(output).clone()


@contextmanager
def watching(body: nn.Module, seen: Outputs, taps: Mapping[str, Tap]) -> Iterator[None]:
    """Inside, every forward pass of `body` fills `seen` anew."""
    modules = dict(body.named_modules())
    handles = [body.register_forward_pre_hook(lambda module, inputs: seen.clear())]
    try:
        for name, tap in taps.items():
            hook = modules[tap.path].register_forward_hook(
                lambda module, inputs, output, name=name: seen.record(name, output)
            )
            handles.append(hook)
        yield
    finally:
        for handle in handles:
            handle.remove()


def gram(features: Tensor, *, bf16: bool = False) -> Tensor:
    """(n, d) -> (n, n) inner products of the rows after their mean is taken off.

    All zero where the rows differ by no more than rounding, so that a constant layer is told apart.
    """
    x = features.float() if features.dtype in (torch.bfloat16, torch.float16) else features
    mean = x.mean(0)
    centred = x - mean
    factor = centred.bfloat16() if bf16 else centred
    kernel = inner(factor).to(x.dtype)
    noise = ROUNDING * torch.finfo(x.dtype).eps * mean.norm()
    told_apart: Tensor = kernel.diagonal().amax().sqrt() > noise
    return kernel * told_apart


def inner(rows: Tensor) -> Tensor:
    """(n, d) -> (n, n) products of all pairs of rows; a quarter of them is the mirrored rest."""
    half = len(rows) // 2
    right = rows[half:] @ rows[half:].T
    top = rows[:half] @ rows.T
    return torch.cat([top, torch.cat([top[:, half:].T, right], dim=1)])


def rbf(grams: Tensor, bandwidth: float) -> Tensor:
    """(l, n, n) Grams -> exp(-distance^2 / (2 w^2)), w = `bandwidth` * median distance.

    All zero where half of the pairs of images or more are the same: they leave no scale.
    """
    norms = grams.diagonal(dim1=1, dim2=2)
    squared = (norms[:, :, None] + norms[:, None, :] - 2 * grams).clamp(min=0)
    width = off_diagonal(squared).median(1).values[:, None, None] * bandwidth**2
    return torch.where(width > 0, (-squared / (2 * width)).exp(), 0.0)


def off_diagonal(matrices: Tensor) -> Tensor:
    """(l, n, n) -> (l, n * (n - 1)) what does not stand on the diagonal."""
    layers, n, _ = matrices.shape
    return matrices.flatten(1)[:, 1:].view(layers, n - 1, n + 1)[:, :, :-1].flatten(1)


def u_centred(kernels: Tensor) -> Tensor:
    """(l, n, n) -> (l, n, n): zero diagonal, and every row and column sums to zero."""
    n = kernels.shape[-1]
    k = kernels.clone()
    k.diagonal(dim1=1, dim2=2).zero_()
    rows = k.sum(2) / (n - 2)
    level = rows.sum(1) / (n - 1)
    k += level[:, None, None] - rows[:, :, None] - rows[:, None, :]
    k.diagonal(dim1=1, dim2=2).zero_()
    return k


def twice_centred(kernels: Tensor) -> Tensor:
    """(l, n, n) -> H K H, H = I - 1/n: rows and columns sum to zero."""
    rows = kernels.mean(2)
    return kernels - rows[:, :, None] - rows[:, None, :] + rows.mean(1)[:, None, None]
