"""What shows a concept, and what would show it by chance?  Examples and counterexamples.

A concept that the data set's masks or parts mark is shown by images of which only the marked pixels
are left, the others being the mean colour. Its counterexamples keep the pixels that the mask of
another image marks: as much is left, at places as likely, but not the concept. Pictures of the
user's own are shown as they are, against images of the data set.

Axes: n images, m examples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.probes.concept_pictures import concepts_in, picture

FEWEST = 6  # examples of a concept
TURNS = (1, 2)  # how far the masks of counterexamples come from


@dataclass(frozen=True)
class Examples:
    """A concept and what stands against it."""

    name: str
    shown: Tensor  # (m, ...) like pixels
    others: Tensor  # (m', ...)
    paired: bool  # others are made of the examples' own images, in order, twice


def examples_of(images: Images, kind: str, folder: str) -> Iterator[Examples]:
    """The concepts of `kind` (masks, parts or folders) that enough of `images` show.

    Raises:
        InputError: there are no such marks, or not enough examples of any concept.
    """
    found = list(_in_folder(images, folder) if kind == "folders" else _marked(images, kind))
    if not found:
        raise InputError(
            f"found fewer than {FEWEST} examples of every concept; wanted as many of one: raise "
            "concept_vectors.examples, or add pictures"
        )
    yield from found


def _marked(images: Images, kind: str) -> Iterator[Examples]:
    nothing = _mean_colour(images.pixels)
    for name, marked in _masks(images, kind).items():
        share = marked.flatten(1).float().mean(1)
        rows = ((share > 0) & (share < 1)).nonzero()[:, 0]
        if len(rows) < FEWEST:
            continue
        pixels, masks = images.pixels[rows], marked[rows].unsqueeze(_channels(images.pixels))
        others = [torch.where(masks.roll(turn, 0), pixels, nothing) for turn in TURNS]
        yield Examples(name, torch.where(masks, pixels, nothing), torch.cat(others), True)


def _masks(images: Images, kind: str) -> dict[str, Tensor]:
    """(n, positions) bool by concept."""
    if kind == "masks":
        if images.objects is None:
            raise InputError(
                "found no object masks in the data set; wanted Images.objects for "
                "concept_vectors.concepts=masks: add them, or name concept_vectors.folders"
            )
        return {"object": images.objects, "background": ~images.objects}
    if images.parts is None:
        raise InputError(
            "found no part labels in the data set; wanted Images.parts for "
            "concept_vectors.concepts=parts: add them, or take concept_vectors.concepts=masks"
        )
    labels = [int(label) for label in torch.unique(images.parts) if label >= 0]
    return {f"part {label}": images.parts == label for label in labels}


def _in_folder(images: Images, folder: str) -> Iterator[Examples]:
    if images.pixels.dim() != 4:
        raise InputError(
            f"found inputs of shape {tuple(images.pixels.shape[1:])} and folders of pictures; "
            "wanted images: concepts of sequences are marked by concept_vectors.concepts=parts"
        )
    high, wide = images.positions
    for name, files in concepts_in(folder).items():
        if len(files) >= FEWEST and len(images) >= 2 * FEWEST:
            pictures = [torch.from_numpy(picture(file, high, wide)) for file in files]
            yield Examples(name, torch.stack(pictures), images.pixels, False)


def _mean_colour(pixels: Tensor) -> Tensor:
    """What is put where nothing is shown; broadcasts with `pixels`."""
    kept = _channels(pixels) % pixels.dim()
    return pixels.mean([axis for axis in range(pixels.dim()) if axis != kept], keepdim=True)


def _channels(pixels: Tensor) -> int:
    """The axis of the channels: second of images, last of sequences."""
    return 1 if pixels.dim() == 4 else -1
