"""What do inner products tell of a layer's shape?  Arithmetic of centred Gram matrices.

Axes: n images, m of a half sample, k directions, l layers; "..." is any stack of layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.contract import Array
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import Sight, sight
from kdprobe.study import Run, Study

HALVES, SHUFFLES, GAUSSIANS = 25, 26, 27  # purposes of chance
ROUNDING = 1e-11  # of the variance: features that point less apart point the same way


@dataclass(frozen=True)
class Shapes:
    """What the probe `grams` saw, of any stack of layers."""

    grams: Array  # (..., n, n) of the centred features
    norms: Array  # (..., n) of the uncentred ones

    def of(self, rows: Array) -> "Shapes":
        """The same layers on the images at `rows` alone, centred anew."""
        return Shapes(centred(self.grams[..., rows[:, None], rows]), self.norms[..., rows])

    def at(self, *index: int | slice) -> "Shapes":
        """Some of the stack."""
        return replace(self, grams=self.grams[index], norms=self.norms[index])

    @property
    def constant(self) -> Array:
        """(...) whether a layer gives every image the same."""
        return np.asarray(np.trace(self.grams, axis1=-2, axis2=-1) <= 0)

    @cached_property
    def spectrum(self) -> tuple[Array, Array]:
        """Eigenvalues (..., n), largest first, 0 below rounding; and eigenvectors (..., n, n)."""
        values, vectors = np.linalg.eigh(self.grams)
        values, vectors = values[..., ::-1], vectors[..., ::-1]
        least = self.grams.shape[-1] * np.finfo(values.dtype).eps * values[..., :1]
        return np.where(values > least, values, 0.0), vectors

    @property
    def filled(self) -> "Shapes":
        """Constant layers made regular simplices, so that arithmetic goes on; mask what follows."""
        n = self.grams.shape[-1]
        stand_in = self.constant[..., None, None] * (np.eye(n) - 1 / n)
        return replace(self, grams=self.grams + stand_in)


def look(study: Study, scope: Scope, run: Run, images: int) -> Sight:
    """Ask for all named layers of `run`, where runs are compared: one look serves all metrics."""
    layers = scope.similarity_layers[run.id]
    return sight("grams", study.final(run), images=images, layers=layers)


def shapes_of(seen: Mapping[str, Array], own: Sequence[str], layers: Sequence[str]) -> Shapes:
    """The `layers` out of a look at the layers `own`, in the order asked."""
    places = [list(own).index(name) for name in layers]
    return Shapes(seen["grams"][places], seen["norms"][places])


def shared_layers(scope: Scope, runs: Sequence[Run]) -> tuple[str, ...]:
    """The named layers that all `runs` have. Raises NotApplicable where there is none."""
    first, *others = (scope.similarity_layers[run.id] for run in runs)
    layers = tuple(name for name in first if all(name in other for other in others))
    if not layers:
        raise NotApplicable(
            f"needs layers of one name in all networks; found {', '.join(first)} in "
            f"{runs[0].id!r} and none of them everywhere: ask for one with --layers"
        )
    return layers


def before_the_answer(layers: Sequence[str]) -> int:
    """The place of the layer that effects are shown at: the last one that is not the logits."""
    hidden = [place for place, name in enumerate(layers) if name != "logits"]
    return hidden[-1] if hidden else len(layers) - 1


def stacked(shapes: Sequence[Shapes]) -> Shapes:
    """Several networks in one stack."""
    return Shapes(np.stack([s.grams for s in shapes]), np.stack([s.norms for s in shapes]))


def chance(scope: Scope, purpose: int) -> np.random.Generator:
    """Chance with a name: the same draws in every analysis of one seed."""
    return np.random.default_rng((scope.seed, purpose))


def centred(kernels: Array) -> Array:
    """(..., n, n) Gram matrices as if the mean had been taken off the features."""
    rows = kernels.mean(-1, keepdims=True)
    return np.asarray(kernels - rows - rows.swapaxes(-1, -2) + rows.mean(-2, keepdims=True))


def squared_distances(grams: Array) -> Array:
    """(..., n, n) of all pairs of images; the diagonal is exactly 0."""
    own = np.diagonal(grams, axis1=-2, axis2=-1)
    found = np.maximum(own[..., :, None] + own[..., None, :] - 2 * grams, 0)
    return np.asarray(found * (1 - np.eye(grams.shape[-1])))


def cosine_distances(shapes: Shapes) -> Array:
    """(..., n, n) squared distances of the features scaled to length one, 2 - 2 cos.

    As (d_ij^2 - (r_i - r_j)^2) / (r_i r_j), which keeps its digits where all features share an
    offset. An image without any feature stays at the origin, 1 from the others.
    """
    r = shapes.norms
    one, two = r[..., :, None], r[..., None, :]
    product = one * two
    apart = squared_distances(shapes.grams) - np.square(one - two)
    own = np.diagonal(shapes.grams, axis1=-2, axis2=-1)
    noise = ROUNDING * (own[..., :, None] + own[..., None, :])
    noise = noise + 16 * np.finfo(r.dtype).eps * np.abs(one**2 - two**2)
    apart = apart * (apart > noise)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(product > 0, apart / product, one != two)
    return np.asarray(np.minimum(found, 4))


def coordinates(shapes: Shapes, share: float = 1.0, most: int | None = None) -> Array:
    """(..., n, k) principal coordinates that hold `share` of the variance, `most` at most.

    k is that of the layer that needs most; others have columns of zeros.
    """
    values, vectors = shapes.spectrum
    total = values.sum(-1, keepdims=True)
    before = np.cumsum(values, -1) - values
    kept = (values > 0) & (before < share * total * (1 - 1e-12))
    if most is not None:
        kept[..., most:] = False
    k = max(1, int(kept.sum(-1).max()))
    values = np.where(kept, values, 0.0)[..., :k]
    return np.asarray(vectors[..., :k] * np.sqrt(values)[..., None, :])


def halves(images: int, draws: int, generator: np.random.Generator) -> list[Array]:
    """Half samples, drawn without replacement."""
    return [np.sort(generator.permutation(images)[: images // 2]) for _ in range(draws)]


def half_sample_error(of: Callable[[Array], Array], rows: Sequence[Array], images: int) -> Array:
    """Standard error of a statistic of the images by the delete-half jackknife.

    The standard deviation over half samples, times sqrt(m / (n - m)). No image is drawn twice, as
    in a bootstrap, where its copies would be nearest neighbours. Source: Shao and Wu 1989.
    """
    found = np.stack([of(some) for some in rows])
    kept = len(rows[0])
    return np.asarray(found.std(0) * np.sqrt(kept / (images - kept)))


def shuffles(images: int, draws: int, generator: np.random.Generator) -> Array:
    """(draws, n) orders of the images."""
    return generator.permuted(np.tile(np.arange(images), (draws, 1)), axis=1)


def in_parts(orders: Array, size: int = 32) -> Iterator[Array]:
    """A few orders at a time: bounds the memory."""
    yield from (orders[start : start + size] for start in range(0, len(orders), size))


def u_centred(distances: Array) -> Array:
    """(..., n, n): zero diagonal, and every row and column sums to zero.

    Source: Szekely and Rizzo 2014, equation 2.1.
    """
    n = distances.shape[-1]
    rows = distances.sum(-1, keepdims=True) / (n - 2)
    total = rows.sum(-2, keepdims=True) / (n - 1)
    return np.asarray((distances - rows - rows.swapaxes(-1, -2) + total) * (1 - np.eye(n)))


def correlations(rows: Array) -> Array:
    """(..., p, m) -> (..., p, p) cosines of the angles between rows; NaN where one is zero."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(length > 0, rows / length, np.nan)
    return np.asarray(unit @ unit.swapaxes(-1, -2))
