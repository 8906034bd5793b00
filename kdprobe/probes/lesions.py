"""What does each block add, and what is lost without it?  Updates, geometry and lesions of blocks.

For a block f with input x, and x' = x carried into the shape of f(x) without weights:
    update      ||f(x) - x|| and ||x|| of every image, where the shapes agree
    HSIC        of x and f(x), and of all pairs of outputs, unbiased, batch by batch
    identity    the network's answers with f(x) := x, where the shapes agree
    mean        its answers with f(x) := x' + mean over images of (f(x) - x')
x' is x where the shapes agree; of images the average over pixels to the output's size, with
channels cut or filled with zeros (the shortcut without weights of He et al.); otherwise 0. Not
f(x) := mean f(x): all that a network knows of an image runs through its blocks, so that the answer
would be the same for every image and the loss tell nothing. Of a residual block that ends in a
ReLU, f(x) - x is max(F(x), -x): all of the branch F but what the ReLU cuts.

Source: Jastrzebski et al. 2018, arXiv:1710.04773 (update ratio); Veit et al. 2016,
arXiv:1605.06431, section 4 (lesions); He et al. 2016, arXiv:1512.03385, section 3.3, option A.

Axes: n images, k blocks, b batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import adaptive_avg_pool2d, pad

from kdprobe.batches import in_batches
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes.blocks import encoded, find_blocks, the_tensor
from kdprobe.probes.contract import probe
from kdprobe.probes.kernels import Kernel, gram
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import flat

SMALLEST_BATCH = 4  # HSIC's n (n - 3) must be positive

See = Callable[[str, Tensor, Tensor], None]  # block, its input, its output


@probe("lesions", version=1)
@torch.no_grad()
def lesions(
    subjects: Sequence[Checkpoint], lens: Lens, *, blocks: Sequence[str], batch: int
) -> Mapping[str, Tensor]:
    """Returns names, the k blocks, one a line, as UTF-8; same (k,) bool, where shapes agree;
    update and size (k, n), the norms of f(x) - x and x, 0 where they do not; right (n,) bool, and
    so without (k, n) by identity, and still (k, n) by mean; labels (n,); and by batches of at
    least four images within (b, k, 3), HSIC of x with f(x), x, f(x), between (b, k, k), HSIC of
    outputs, and sizes (b,). Of a network without blocks only names, which are none.
    """
    images, network = lens.images, lens.network(subjects[0])
    lens.must_have_classes(subjects[0], images)
    pixels, labels = images.pixels.to(lens.device), images.labels.to(lens.device)
    found = find_blocks(network, pixels[:1], blocks)
    if not found:
        return {"names": encoded([])}
    rows = lens.rows(network, images)
    seen = Updates(network, found)
    parts = in_batches(lambda some: seen.part(pixels[some]), len(pixels), min(batch, rows))
    answers = in_batches(lambda some: seen.answers(pixels[some]) == labels[some], len(pixels), rows)
    right = torch.cat(answers, dim=1).cpu()
    large = [part for part in parts if len(part["update"][0]) >= SMALLEST_BATCH]
    k = len(found)
    return {
        "names": encoded(list(found)),
        "same": torch.tensor([seen.same[name] for name in found]),
        "update": torch.cat([part["update"] for part in parts], dim=1).cpu(),
        "size": torch.cat([part["size"] for part in parts], dim=1).cpu(),
        "right": right[0],
        "without": right[1 : k + 1],
        "still": right[k + 1 :],
        "labels": images.labels,
        "within": _stacked([part["within"] for part in large], (k, 3)),
        "between": _stacked([part["between"] for part in large], (k, k)),
        "sizes": torch.tensor([part["update"].shape[1] for part in large], dtype=torch.int64),
    }


class Updates:
    """What every block adds to its input; remembers the means that a lesion leaves in place."""

    def __init__(self, network: Network, blocks: Mapping[str, nn.Module]) -> None:
        self.network, self.blocks = network, blocks
        self.same: dict[str, bool] = {}
        self._shape: dict[str, torch.Size] = {}
        self._total: dict[str, Tensor] = {}
        self._count = 0

    def part(self, pixels: Tensor) -> dict[str, Tensor]:
        """Norms and HSIC of one batch, as the probe returns them."""
        grams: dict[str, tuple[Tensor, Tensor]] = {}
        norms: dict[str, tuple[Tensor, Tensor]] = {}
        totals: dict[str, Tensor] = {}

        def see(name: str, x: Tensor, out: Tensor) -> None:
            self.same[name], self._shape[name] = x.shape == out.shape, out.shape[1:]
            x, out = x.float(), out.float()
            shift = out - carried(x, out.shape[1:])
            totals[name] = shift.sum(0)
            size = vector_norm(flat(x), dim=1)
            none = torch.zeros_like(size)
            update = vector_norm(flat(shift), dim=1)
            norms[name] = (update, size) if self.same[name] else (none, none)
            if len(x) >= SMALLEST_BATCH:
                grams[name] = (gram(flat(x)), gram(flat(out)))

        with watched(self.blocks, see):
            self.network(pixels)
        for name, total in totals.items():  # not before the pass is over: it may be repeated
            self._total[name] = self._total[name] + total if name in self._total else total
        self._count += len(pixels)
        update, size = self._rows(norms)
        return {"update": update, "size": size, **self._hsic(grams)}

    def _hsic(self, grams: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        if not grams:
            return {}
        kernel = Kernel()
        x, out = (kernel.centred(kernel.of(side)) for side in self._rows(grams))
        within = [(x * out).sum(1), x.square().sum(1), out.square().sum(1)]
        return {"within": torch.stack(within, dim=1), "between": out @ out.T}

    def _rows(self, seen: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Both sides, a row a block."""
        for name in self.blocks:
            if name not in seen:
                raise InputError(
                    f"found that block {name!r} is called on some images only; wanted one that "
                    "always is: set reuse.blocks, see 'kdprobe inspect'"
                )
        one, two = zip(*(seen[name] for name in self.blocks), strict=True)
        return torch.stack(one), torch.stack(two)

    def answers(self, pixels: Tensor) -> Tensor:
        """(1 + 2 k, n) the classes that the network names: whole, without each block, with each
        held at its mean. What comes before a block is not run again for it.
        """
        kept: dict[str, Tensor] = {}
        with watched(self.blocks, lambda name, x, out: kept.update({name: out.clone()})):
            whole = self.network(pixels).argmax(1)
        without, still = [], []
        for name, module in self.blocks.items():
            with ExitStack() as stack:
                for before in self._before(name):
                    stack.enter_context(instead(self.blocks[before], partial(_again, kept[before])))
                with instead(module, torch.clone):
                    without.append(self.network(pixels).argmax(1) if self.same[name] else whole)
                with instead(module, partial(self._held, name)):
                    still.append(self.network(pixels).argmax(1))
        return torch.stack([whole, *without, *still])

    def _before(self, name: str) -> list[str]:
        """The blocks that are over when block `name` begins: not those that it is inside of."""
        names = list(self.blocks)
        return [n for n in names[: names.index(name)] if not name.startswith(f"{n}.")]

    def _held(self, name: str, x: Tensor) -> Tensor:
        """What the mean lesion of block `name` makes of its input."""
        mean = self._total[name] / self._count
        return carried(x, self._shape[name]) + mean.to(x.dtype)


def _again(output: Tensor, x: Tensor) -> Tensor:
    return output.clone()


def carried(x: Tensor, shape: torch.Size) -> Tensor:
    """(n, ...) -> (n, *shape) without weights: see the module."""
    if x.shape[1:] == shape:
        return x
    if x.dim() == 4 and len(shape) == 3:
        return pad(adaptive_avg_pool2d(x, shape[1:]), (0, 0, 0, 0, 0, shape[0] - x.shape[1]))
    return x.new_zeros((len(x), *shape))


@contextmanager
def watched(blocks: Mapping[str, nn.Module], see: See) -> Iterator[None]:
    """Inside, `see` is told of every call of a block; inputs are copies, taken before the call."""
    held: dict[str, Tensor] = {}

    def before(name: str, inputs: Any, named: Any) -> None:
        held[name] = the_tensor(inputs, named).clone()

    with ExitStack() as stack:
        for name, module in blocks.items():
            for handle in (
                module.register_forward_pre_hook(
                    lambda _, inputs, named, name=name: before(name, inputs, named),
                    with_kwargs=True,
                ),
                module.register_forward_hook(
                    lambda _, inputs, out, name=name: see(name, held.pop(name), out)
                ),
            ):
                stack.callback(handle.remove)
        yield


@contextmanager
def instead(module: nn.Module, replacement: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, `module` does not run: it gives what `replacement` makes of its input."""
    own = vars(module).get("forward")  # of a module that someone has wrapped
    vars(module)["forward"] = lambda *inputs, **named: replacement(the_tensor(inputs, named))
    try:
        yield
    finally:
        del vars(module)["forward"]
        if own is not None:
            vars(module)["forward"] = own


def _stacked(parts: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(list(parts)).cpu() if parts else torch.zeros(0, *shape, dtype=torch.float64)
