"""How much is an attribution map worth?  Infidelity and max-sensitivity, by captum.

    unexplained = min_b E (b sum_p I_p m_p - (f(x) - f(x_I)))^2 / E (f(x) - f(x_I))^2
    sensitivity = max over small changes d of ||m(x + d) - m(x)|| / ||m(x)||

I marks the pixels of a random square, which are filled with nothing in x_I: a map that tells what
the square is worth leaves 0 unexplained, an idle one 1. The factor b is free (of any sign), since a
map's scale has no meaning for Grad-CAM. Beside it the same of the next image's map, which knows
nothing of the image: with few squares, b alone explains a little.

Source: Yeh et al. 2019, arXiv:1901.09392, sections 2 and 3.

Axes: n images, s squares or small changes of each, h and w pixels.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.batches import in_batches
from kdprobe.passes import passing
from kdprobe.probes.attributions import WINDOW, Explainer, prepared, smaller
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint

SQUARES, CHANGES = 70, 71  # purposes of chance


@probe("map_checks", version=1)
def map_checks(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    method: str,
    reference: str,
    steps: int,
    layers: Sequence[str],
    side: int,
    squares: int,
    changes: int,
    radius: float,
) -> Mapping[str, Tensor]:
    """Returns of every map NAME of the method, as `attributions` makes it: unexplained/NAME (n,),
    by_chance/NAME (n,), of the next image's map, and sensitivity/NAME (n,). An image whose logit
    no square changes has 1 unexplained.
    """
    how, pixels, target = prepared(subjects, lens, method, reference, steps, layers)
    holes = _squares(len(pixels), squares, pixels, lens.generator(SQUARES))
    noise = torch.empty(len(pixels), changes, *pixels.shape[1:])
    noise.uniform_(-radius, radius, generator=lens.generator(CHANGES))
    seen = {"target": target.cpu()}
    for name in how.names:
        maps = _explained(how, name, pixels, target)
        seen[f"unexplained/{name}"] = _unexplained(how, maps, pixels, target, holes)
        seen[f"by_chance/{name}"] = _unexplained(how, maps.roll(-1, 0), pixels, target, holes)
        seen[f"sensitivity/{name}"] = _sensitivity(how, name, pixels, target, noise, side)
    return seen


def _explained(how: Explainer, name: str, pixels: Tensor, target: Tensor) -> Tensor:
    parts = in_batches(
        lambda some: how.explain(name, pixels[some], target[some]), len(pixels), how.at_once
    )
    return torch.cat(parts)


def _squares(count: int, squares: int, pixels: Tensor, chance: torch.Generator) -> Tensor:
    """(n, s, h, w) bool, True inside a square of a quarter of the image's side."""
    inside = []
    for length in pixels.shape[2:]:
        wide = max(1, length // WINDOW)
        first = torch.randint(length - wide + 1, (count, squares, 1), generator=chance)
        places = torch.arange(length)
        inside.append((places >= first) & (places < first + wide))
    return (inside[0][..., :, None] & inside[1][..., None, :]).to(pixels.device)


def _unexplained(
    how: Explainer, maps: Tensor, pixels: Tensor, target: Tensor, holes: Tensor
) -> Tensor:
    """(n,) captum's normalised infidelity, as a part of that of a map of zeros."""

    def part(some: slice) -> Tensor:
        asked = (pixels[some], target[some], holes[some])
        left = _infidelity(how, maps[some], *asked, normalize=True)
        whole = _infidelity(how, torch.zeros_like(maps[some]), *asked, normalize=False)
        return torch.where(whole > 0, left / whole.clamp(min=1e-30), 1.0).clamp(0, 1)

    return torch.cat(in_batches(part, len(pixels), max(1, how.rows // holes.shape[1]))).cpu()


def _infidelity(
    how: Explainer, maps: Tensor, pixels: Tensor, target: Tensor, holes: Tensor, *, normalize: bool
) -> Tensor:
    from captum.metrics import infidelity

    def fill(copies: Tensor) -> tuple[Tensor, Tensor]:
        gone = holes.flatten(0, 1)[:, None].to(copies.dtype).expand_as(copies)
        return gone, copies + gone * (how.reference - copies)

    with passing():
        found: Tensor = infidelity(
            how.network,
            fill,
            pixels,
            maps.contiguous(),
            target=target,
            n_perturb_samples=holes.shape[1],
            normalize=normalize,
        )
    return found


def _sensitivity(
    how: Explainer, name: str, pixels: Tensor, target: Tensor, noise: Tensor, side: int
) -> Tensor:
    """(n,) the largest relative change of the map over the changes of `noise` (n, s, 3, h, w)."""
    from captum.metrics import sensitivity_max

    def explain(inputs: Tensor | tuple[Tensor, ...], target: Tensor) -> tuple[Tensor]:
        given = inputs if isinstance(inputs, Tensor) else inputs[0]
        return (smaller(how.explain(name, given, target).sum(1), side).contiguous(),)

    def part(some: slice) -> Tensor:
        def change(copies: Tensor) -> Tensor:
            return (copies + noise[some].flatten(0, 1).to(copies.device)).clamp(0, 1)

        found: Tensor = sensitivity_max(
            explain,
            pixels[some],
            perturb_func=change,
            n_perturb_samples=noise.shape[1],
            target=target[some],
        )
        return found.flatten()

    size = max(1, how.at_once // noise.shape[1])
    return torch.cat(in_batches(part, len(pixels), size)).cpu()
