"""Where does a network look?  How much every pixel adds to one logit, by methods of captum.

    integrated_gradients  (x - x') * mean over the way from x' to x of df/dx
    input_x_gradient      x * df/dx
    grad_cam              sum over channels of (mean over places of df/da) * a, of a layer
    occlusion             mean drop of f over the windows that cover a pixel, filled with x'

f is the logit of one class, x' an image of nothing: black, or the mean colour. A map is the sum
over the three channels, with its sign; maps of large images are taken down to `side` pixels.

Source: Sundararajan et al. 2017, arXiv:1703.01365; Shrikumar et al. 2016, arXiv:1605.01713;
Selvaraju et al. 2017, arXiv:1610.02391 (without the last ReLU); Zeiler and Fergus 2013,
arXiv:1311.2901.

Axes: n images, h and w pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from kdprobe.batches import in_batches
from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.passes import passing
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import find_taps, shapes

WINDOW, STRIDE = 4, 8  # of occlusion: a quarter of the image's side, moved by an eighth


@dataclass(frozen=True)
class Explainer:
    """One method at one network."""

    method: str
    network: Network
    reference: Tensor  # (1, 3, 1, 1) the colour of nothing
    steps: int  # of integrated gradients
    layers: Mapping[str, nn.Module]  # of Grad-CAM: those that keep places
    rows: int  # images that fit at once

    @property
    def at_once(self) -> int:
        """How many images may be explained at once."""
        return max(1, self.rows // (self.steps if self.method == "integrated_gradients" else 1))

    @property
    def names(self) -> tuple[str, ...]:
        """The maps that this method makes: one, or one a layer."""
        return tuple(self.layers) if self.method == "grad_cam" else (self.method,)

    def explain(self, name: str, pixels: Tensor, target: Tensor) -> Tensor:
        """(n, 3, h, w) what every number of `pixels` adds to the logit of `target` (n,).

        Raises:
            InputError: no gradient leads from the logits to the pixels or to the layer.
        """
        try:
            with passing():
                return METHODS[self.method](self, name, pixels, target).detach()
        except RuntimeError as error:
            if "memory" in str(error):
                raise
            raise InputError(
                f"found a network that {self.method} cannot explain ({error}); wanted gradients "
                "from its logits to its input: leave the method out of attributions.methods"
            ) from error


def _integrated(how: Explainer, name: str, pixels: Tensor, target: Tensor) -> Tensor:
    from captum.attr import IntegratedGradients

    found: Tensor = IntegratedGradients(how.network).attribute(
        pixels,
        how.reference.expand_as(pixels).contiguous(),
        target=target,
        n_steps=how.steps,
        internal_batch_size=None if how.steps <= how.rows else how.rows,
    )
    return found


def _times_gradient(how: Explainer, name: str, pixels: Tensor, target: Tensor) -> Tensor:
    from captum.attr import InputXGradient

    lent = pixels.detach().clone().requires_grad_()
    found: Tensor = InputXGradient(how.network).attribute(lent, target)
    return found


def _grad_cam(how: Explainer, name: str, pixels: Tensor, target: Tensor) -> Tensor:
    from captum.attr import LayerGradCam

    found = LayerGradCam(how.network, how.layers[name]).attribute(pixels, target)
    large = interpolate(found, size=pixels.shape[2:], mode="bilinear", align_corners=False)
    return large.expand_as(pixels) / pixels.shape[1]


def _occlusion(how: Explainer, name: str, pixels: Tensor, target: Tensor) -> Tensor:
    from captum.attr import Occlusion

    sides = pixels.shape[2:]
    windows = (pixels.shape[1], *(max(1, side // WINDOW) for side in sides))
    found: Tensor = Occlusion(how.network).attribute(
        pixels,
        windows,
        strides=(pixels.shape[1], *(max(1, side // STRIDE) for side in sides)),
        baselines=how.reference.expand_as(pixels[:1]),
        target=target,
        perturbations_per_eval=max(1, how.rows // len(pixels)),
    )
    return found / pixels.shape[1]


METHODS: dict[str, Callable[[Explainer, str, Tensor, Tensor], Tensor]] = {
    "integrated_gradients": _integrated,
    "input_x_gradient": _times_gradient,
    "grad_cam": _grad_cam,
    "occlusion": _occlusion,
}


@probe("attributions", version=1)
def attributions(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    method: str,
    reference: str,
    steps: int,
    layers: Sequence[str],
    side: int,
) -> Mapping[str, Tensor]:
    """The maps of the first subject for the class that the second one predicts; of one: the label.

    Returns target (n,), maps/NAME (n, h, w) in logits, NAME a layer for Grad-CAM (those without
    places have none), else the method; and of integrated gradients gap (n,), by how much the sum
    of the attributions misses the change of the logit, and change (n,).

    Raises:
        InputError: the inputs are no images, or no gradient reaches them.
    """
    how, pixels, target = prepared(subjects, lens, method, reference, steps, layers)
    seen = {"target": target.cpu()}
    for name in how.names:

        def part(some: slice, name: str = name) -> tuple[Tensor, Tensor]:
            whole = how.explain(name, pixels[some], target[some]).sum(1)
            return smaller(whole, side), whole.sum((1, 2))

        parts = in_batches(part, len(pixels), how.at_once)
        maps, sums = (torch.cat(kind).cpu() for kind in zip(*parts, strict=True))
        seen[f"maps/{name}"] = maps
    if method == "integrated_gradients":
        seen["change"] = _change(how, pixels, target)
        seen["gap"] = sums - seen["change"]
    return seen


def prepared(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    method: str,
    reference: str,
    steps: int,
    layers: Sequence[str],
) -> tuple[Explainer, Tensor, Tensor]:
    """How the first subject is explained, pixels (n, 3, h, w) and target (n,) on the device."""
    images = lens.images
    _must_be_images(images)
    for subject in subjects:
        lens.must_have_classes(subject, images)
    pixels = images.pixels.to(lens.device)
    network = lens.network(subjects[0])
    colour = pixels.mean((0, 2, 3)) if reference == "mean" else pixels.new_zeros(3)
    how = Explainer(
        method=method,
        network=network,
        reference=colour.view(1, 3, 1, 1),
        steps=steps,
        layers=_with_places(network, layers, pixels) if method == "grad_cam" else {},
        rows=lens.rows(network, images),
    )
    teacher = subjects[1:]
    target = _predicted(lens, teacher[0], images) if teacher else images.labels.to(lens.device)
    return how, pixels, target


def _must_be_images(images: Images) -> None:
    if images.pixels.dim() != 4:
        raise InputError(
            f"found inputs of shape {tuple(images.pixels.shape[1:])}; attribution maps want images "
            "(3, h, w): leave attributions out of the metrics of sequences"
        )


def _with_places(network: Network, layers: Sequence[str], pixels: Tensor) -> dict[str, nn.Module]:
    """The modules of those `layers` whose output is (n, c, h, w), of more than one place."""
    taps = find_taps(network.body, layers)
    found = shapes(network.body, taps, network.normalised(pixels[:1]))
    keep = [name for name, shape in found.items() if len(shape) == 3 and shape[1] * shape[2] > 1]
    return {name: network.body.get_submodule(taps[name].path) for name in keep}


@torch.no_grad()
def _predicted(lens: Lens, teacher: Checkpoint, images: Images) -> Tensor:
    """(n,) the teacher's classes."""
    network = lens.network(teacher)
    pixels = images.pixels.to(lens.device)
    rows = lens.rows(network, images)
    return torch.cat(in_batches(lambda some: network(pixels[some]).argmax(1), len(pixels), rows))


def smaller(maps: Tensor, side: int) -> Tensor:
    """(n, h, w) -> at most `side` high and wide: means of the pixels that fall together."""
    high, wide = (min(side, length) for length in maps.shape[1:])
    return adaptive_avg_pool2d(maps, (high, wide)) if max(maps.shape[1:]) > side else maps


@torch.no_grad()
def _change(how: Explainer, pixels: Tensor, target: Tensor) -> Tensor:
    """(n,) f(x) - f(x')."""
    nothing = how.network(how.reference.expand_as(pixels[:1]))[0]
    parts = in_batches(
        lambda some: how.network(pixels[some]).gather(1, target[some, None])[:, 0],
        len(pixels),
        how.rows,
    )
    change: Tensor = torch.cat(parts) - nothing[target]
    return change.cpu()
