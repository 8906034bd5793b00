"""What does every network keep of these very images?  Their maps side by side, as one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from kdprobe.datasets.contract import Images
from kdprobe.device import choose_device, repeatable
from kdprobe.errors import InputError, UsageError
from kdprobe.files import write_whole
from kdprobe.metrics.gallery import pictured
from kdprobe.metrics.looking import ConceptLook
from kdprobe.panels import Gallery
from kdprobe.probes.contract import look_at
from kdprobe.probes.lens import Lens, test_images
from kdprobe.request import Request, scope_of, with_estimator
from kdprobe.soundness import check
from kdprobe.study import Run, Study, load_study

KINDS = ("png", "svg", "pdf")


def explain(
    study: str | Path | Study,
    images: Sequence[int | str | Path],
    *,
    out: str | Path = "explain.png",
    layers: Sequence[str] = (),
    runs: Sequence[str] = (),
    b: float = 1.0,
    estimator: str | None = None,
    device: str = "auto",
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    allow_code: Sequence[str] = (),
) -> Path:
    """Draw what the networks of a study keep of chosen images, at the end of their training.

    Args:
        study: a study's folder, or a loaded study.
        images: places in the test split, or picture files of the size of its images. Pictures have
            no object mask: their maps are compared with their own mean.
        out: the picture to write; its ending says the format: png, svg or pdf.
        layers: taps or module paths; default the last one, the logits.
        runs: ids; default every network.
        b: threshold of the framed concepts, nats.
        estimator, device, seed, settings, allow_code: as in `kdprobe.analyze`.

    Returns:
        The file that was written.

    Raises:
        UsageError: a run, an image's place, or the ending of `out` is unknown.
        InputError: a picture cannot be read, or has another size than the data.
        OutputError: `out` cannot be written.
    """
    file = Path(out)
    kind = file.suffix.lstrip(".").lower()
    if kind not in KINDS:
        raise UsageError(f"found --out {file}; wanted a file that ends in .{', .'.join(KINDS)}")
    loaded = study if isinstance(study, Study) else load_study(study)
    request = Request(
        layers=tuple(layers),
        device=device,
        seed=seed,
        settings=with_estimator(settings or {}, estimator),
        allowed=frozenset(allow_code),
    )
    galleries = seen_on(loaded, images, runs, b, request)
    from kdprobe.report.still import sheet

    return write_whole(file, sheet(galleries, kind))


def seen_on(
    study: Study,
    places: Sequence[int | str | Path],
    runs: Sequence[str],
    b: float,
    request: Request,
) -> list[Gallery]:
    """One gallery a layer: the images at `places` with the maps of the networks called `runs`."""
    sound, _ = check(study, request.allowed)
    networks = _chosen(sound, runs)
    split = test_images(sound.data, request.allowed)
    images, names = _picked(split, places)
    if len(images.positions) != 2:
        raise InputError("found a data set of sequences; explain draws images: use analyze")
    scope = scope_of(sound, replace(request, images=len(images)), images)
    if not request.layers:
        scope = replace(scope, layers=scope.layers[-1:])
    everything = {layer: np.ones(len(images), dtype=bool) for layer in scope.layers}
    how = ConceptLook(scope, sound, everything)  # nobody's choice is filtered away
    lens = Lens(
        choose_device(request.device),
        sound.data,
        len(images),
        request.seed,
        request.allowed,
        chosen=images,
    )
    seen = {}
    with repeatable():
        for wanted in [how.pictures, *(how.at(sound.final(run)) for run in networks)]:
            found = look_at(wanted, lens)
            seen[wanted] = {name: tensor.cpu().numpy() for name, tensor in found.items()}
    drawn = [
        pictured(how, seen, sound, layer, networks=networks, rows=range(len(images)), b=b)
        for layer in scope.layers
    ]
    return [_renamed(gallery, names) for gallery in drawn if gallery is not None]


def _chosen(study: Study, ids: Sequence[str]) -> list[Run]:
    known = {run.id: run for run in study.runs}
    for name in ids:
        if name not in known:
            raise UsageError(f"found no run {name!r}; wanted {', '.join(known)}")
    return [known[name] for name in ids] if ids else list(study.runs)


def _picked(split: Images, places: Sequence[int | str | Path]) -> tuple[Images, list[str]]:
    """The images, and what they are called."""
    if not places:
        raise UsageError("found no image; wanted places in the test split, or picture files")
    numbers = [int(str(place)) for place in places if str(place).isdecimal()]
    files = [Path(str(place)) for place in places if not str(place).isdecimal()]
    if numbers and files:
        raise UsageError("found places and files; wanted one kind: files have no object mask")
    if files:
        pixels = torch.stack([_read(file, split.positions) for file in files])
        none = torch.zeros(len(files), dtype=torch.int64)
        nowhere = torch.zeros(len(files), *split.positions, dtype=torch.bool)
        found = Images(pixels, none, split.classes, nowhere)
        return found, [file.name for file in files]
    high = max(numbers)
    if high >= len(split):
        raise UsageError(f"found image {high}; wanted 0 to {len(split) - 1}, of the test split")
    found = split.take(torch.tensor(numbers))
    if found.objects is None:
        found = replace(found, objects=torch.zeros(len(found), *split.positions, dtype=torch.bool))
    return found, [
        f"image {number}: {split.classes[label]}"
        for number, label in zip(numbers, found.labels.tolist(), strict=True)
    ]


def _read(file: Path, size: tuple[int, ...]) -> torch.Tensor:
    """(3, h, w) in [0, 1]."""
    try:
        with Image.open(file) as picture:
            array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read picture {file}: {error}; wanted PNG or JPEG") from error
    if array.shape[:2] != size:
        raise InputError(
            f"found a picture of {array.shape[0]} × {array.shape[1]} pixels in {file}; wanted "
            f"{size[0]} × {size[1]}, as the data set has: resize it first"
        )
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _renamed(gallery: Gallery, names: Sequence[str]) -> Gallery:
    pictures = tuple(
        picture.model_copy(update={"name": name})
        for picture, name in zip(gallery.pictures, names, strict=True)
    )
    return gallery.model_copy(update={"pictures": pictures})
