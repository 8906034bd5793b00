"""How much does each block change, and can the network do without it?  Updates and lesions."""

from collections.abc import Mapping

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.accuracy import proportion_error
from kdprobe.metrics.contract import Array, Inquiry, answered, metric, roles_of
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.reuse_page import Blocks, Reuse
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference, mean_of_defined, variance_of_defined
from kdprobe.study import Study

SURE = 3.0  # standard errors by which a network must beat one that sees nothing


def names_in(written: Array) -> tuple[str, ...]:
    """The names that a probe wrote as UTF-8, one a line."""
    return tuple(written.astype(np.uint8).tobytes().decode().split("\n"))


def ratio(update: Array, size: Array) -> Array:
    """||f(x) - x|| / ||x|| of every block and image (k, n); NaN where the input is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(size > 0, update / size, np.nan), dtype=np.float64)


def mean_and_error(values: Array) -> tuple[Array, Array]:
    """Mean and standard error over the last axis, leaving NaN out; NaN where they are undefined."""
    count = (~np.isnan(values)).sum(-1)
    with np.errstate(divide="ignore"):
        error = np.sqrt(variance_of_defined(values) / (count - 1.0))
    return mean_of_defined(values), error


def cka_of_blocks(within: Array, sizes: Array) -> tuple[Array, Array]:
    """(k,) CKA of input and output, and its error: a jackknife over batches (b, k, 3) of HSIC.

    Batches weigh by their images (b,). NaN without a batch, and no error of a single one.
    """
    if not len(sizes):
        unknown = np.full(within.shape[1], np.nan)
        return unknown, unknown
    weighed = within * sizes[:, None, None]
    whole = weighed.sum(0)
    found, b = _one_to_one(whole), len(sizes)
    if b < 2:
        return found, np.full_like(found, np.nan)
    without = np.stack([_one_to_one(whole - part) for part in weighed])
    spread = (without - without.mean(0)) ** 2
    return found, np.asarray(np.sqrt((b - 1) / b * spread.sum(0)))


def _one_to_one(hsic: Array) -> Array:
    return normalised(hsic[:, 0], hsic[:, 1], hsic[:, 2])


def normalised(cross: Array, first: Array, second: Array) -> Array:
    """CKA from HSIC of two sides, and of each with itself; NaN where a side is constant."""
    scale = np.sqrt(first * second)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(scale > 0, cross / scale, np.nan), dtype=np.float64)


def cka_between(between: Array, sizes: Array) -> Array:
    """(k, k) CKA of the outputs of all pairs of blocks, from their HSIC (b, k, k); NaN without."""
    hsic = (between * sizes[:, None, None]).sum(0)
    own = np.diagonal(hsic)
    return normalised(hsic, own[:, None], own[None, :])


def _blocks(seen: Mapping[str, Array]) -> Blocks:
    same, right = seen["same"], seen["right"].astype(float)
    names = names_in(seen["names"])
    ratios = np.where(same[:, None], ratio(seen["update"], seen["size"]), np.nan)
    lost = right - seen["without"]
    without, still = np.where(same[:, None], lost, np.nan), right - seen["still"]
    between = cka_between(seen["between"], seen["sizes"])
    update, update_error = mean_and_error(ratios)
    cka, cka_error = cka_of_blocks(seen["within"], seen["sizes"])
    lost_without, without_error = mean_and_error(without)
    lost_still, still_error = mean_and_error(still)
    accuracy, most = float(right.mean()), float(np.bincount(seen["labels"]).max() / len(right))
    error = proportion_error(accuracy, len(right))
    able = accuracy - SURE * error > most
    return Blocks(
        blocks=names,
        same=tuple(same.tolist()),
        able=able,
        update=update,
        update_error=update_error,
        cka=cka,
        cka_error=cka_error,
        neighbours=float(mean_of_defined(np.diagonal(between, 1))),
        accuracy=accuracy,
        accuracy_error=error,
        most=most,
        without=lost_without,
        without_error=without_error,
        still=lost_still,
        still_error=still_error,
        between=between,
        ratios=mean_of_defined(ratios.T),
        losses=still.mean(0) / (accuracy - most) if able else np.full(len(right), np.nan),
    )


@metric(
    "reuse",
    title="Feature reuse (blocks)",
    question="How much does each block change, and can the network do without it?",
    source="Jastrzebski et al. 2018, arXiv:1710.04773 (update ratio); Veit et al. 2016, "
    "arXiv:1605.06431, section 4 (lesions); Kornblith et al. 2019, arXiv:1905.00414, section 3",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("without", "still"),
    place=65,
)
def reuse(
    study: Study,
    scope: Scope,
    *,
    images: int = 512,
    batch: int = 64,
    blocks: tuple[str, ...] = ("auto",),
) -> Inquiry[Reuse]:
    """Update ratio, CKA of input and output, and lesions of every block f of every network.

    update = mean of ||f(x) - x|| / ||x||; CKA(x, f(x)), linear, unbiased, over batches of `batch`;
    accuracy lost, in shares of images, with f(x) := x (identity), and with f(x) := x' + mean over
    images of (f(x) - x') (mean). Identity and update where x and f(x) have one shape; x' is then
    x, and otherwise x averaged over pixels to the size of f(x), its channels cut or filled with
    zeros. Of a residual block f(x) - x is the branch F(x), but for what a ReLU after the addition
    cuts. Blocks are found by running the network: modules of a class that occurs more than once
    (residual blocks, encoder layers), else groups of layers, else layers; `blocks` names others.
    At the last epoch that the learners share, on held-out images.
    """
    asked = {
        run.id: sight("lesions", study.final(run), images=images, blocks=blocks, batch=batch)
        for run in study.runs
    }
    seen = yield list(asked.values())
    found, reasons = answered(seen, asked)
    runs = {run: _blocks(shown) for run, shown in found.items() if len(shown["names"])}
    if not runs:
        raise NotApplicable(
            "needs modules with weights that are called once, take one tensor and give one; found "
            "none but what puts out the logits; name some with --set reuse.blocks=..., or leave "
            "reuse out"
        )
    without = [run for run in found if run not in runs]
    return Reuse(
        images=len(next(iter(runs.values())).losses),
        runs=runs,
        effects=_compared(study, runs),
        reasons=[*reasons, *map(_lacks, without)],
        roles=roles_of(study.runs),
    )


def _lacks(run: str) -> str:
    return (
        f"found no block in {run}; wanted one to leave out: name some with --set reuse.blocks=..."
    )


def _compared(study: Study, runs: Mapping[str, Blocks]) -> dict[str, Difference]:
    kinds = {
        "update": {run: at.ratios for run, at in runs.items()},
        "lost": {run: at.losses for run, at in runs.items()},
    }
    return {
        f"{arm}: {kind}": difference
        for kind, values in kinds.items()
        for arm, difference in over_images(study, values).items()
    }
