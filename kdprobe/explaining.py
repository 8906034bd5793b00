"""What does every network keep of these very images?  Their maps side by side, as one picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kdprobe.datasets.contract import Images
from kdprobe.device import choose_device, repeatable
from kdprobe.errors import InputError, UsageError
from kdprobe.files import write_whole
from kdprobe.metrics.contract import Array
from kdprobe.metrics.gallery import pictured
from kdprobe.metrics.looking import ConceptLook
from kdprobe.panels import Gallery
from kdprobe.probes.contract import Sight, look_at
from kdprobe.probes.lens import Lens, test_images
from kdprobe.request import Request, chosen_metrics, scope_of, with_estimator
from kdprobe.soundness import check
from kdprobe.study import Run, Study, load_study

KINDS = ("png", "svg", "pdf")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # as PIL has it


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

    Every image is compared with its own background (``discarding.level`` is "image", whatever its
    default): its map and its concepts do not depend on the images beside it. An analysis compares
    with the mean over its sample, so counts may differ from the report's.

    Args:
        study: a study's folder, or a loaded study.
        images: places in the test split, or picture files of the size of its images. Of a picture
            file neither class nor object is known: all of it is background, unless
            ``discarding.object`` is "centre".
        out: the picture to write; its ending says the format: png, svg or pdf.
        layers: taps or module paths; default the last one, the logits.
        runs: ids; default every network.
        b: threshold of the framed concepts, nats; any finite number.
        estimator, device, seed, settings, allow_code: as in `kdprobe.analyze`; but b is no setting
            here.

    Returns:
        The file that was written.

    Raises:
        UsageError: a run, a setting, an image's place, or the ending of `out` is unknown, or a
            setting has no meaning here.
        InputError: a picture cannot be read, or has another size than the data; an image has no
            background; the data are sequences.
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
    _must_have_a_meaning(request, b)
    sound, _ = check(study, request.allowed)
    networks = _chosen(sound, runs)
    split = test_images(sound.data, request.allowed)
    if len(split.positions) != 2:
        raise InputError("found a data set of sequences; explain draws images: use analyze")
    images, told = _picked(split, places)
    scope = scope_of(sound, replace(request, images=len(images)), images)
    scope = replace(
        scope,
        layers=scope.layers if request.layers else scope.layers[-1:],
        discarding=replace(scope.discarding, level="image"),
    )
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
    seen = _seen([how.pictures], lens)
    _must_have_background(how.objects(seen).off, told)
    seen |= _seen([how.at(sound.final(run)) for run in networks], lens)
    drawn = [
        pictured(how, seen, sound, layer, networks=networks, rows=range(len(images)), b=b)
        for layer in scope.layers
    ]
    return [_described(gallery, told) for gallery in drawn if gallery is not None]


def _must_have_a_meaning(request: Request, b: float) -> None:
    """Raise UsageError for a setting that is unknown, or that no picture can be drawn by."""
    chosen_metrics(request)
    chosen = request.settings.get("discarding", {})
    if "b" in chosen:
        raise UsageError(
            f"found discarding.b={chosen['b']}; explain frames the concepts of one threshold, "
            f"wanted --b {chosen['b']} (in Python: b={chosen['b']})"
        )
    if chosen.get("level") == "data":
        raise UsageError(
            "found discarding.level=data; explain compares every image with its own background "
            "(level=image), or its concepts would depend on the images beside it: leave it out"
        )
    if not math.isfinite(b):
        raise UsageError(f"found --b {b}; wanted a finite number of nats, such as 1")


def _must_have_background(off: Array, told: Sequence[Mapping[str, str]]) -> None:
    """Raise InputError where an image has no unit (n, q) to compare with."""
    for background, picture in zip(off, told, strict=True):
        if not background.any():
            raise InputError(
                f"the object of {picture['name']} leaves no background to compare it with; choose "
                "another image, or --set discarding.object=centre"
            )


def _seen(wanted: Sequence[Sight], lens: Lens) -> dict[Sight, dict[str, Array]]:
    with repeatable():
        return {
            sight: {name: tensor.cpu().numpy() for name, tensor in look_at(sight, lens).items()}
            for sight in wanted
        }


def _chosen(study: Study, ids: Sequence[str]) -> list[Run]:
    known = {run.id: run for run in study.runs}
    for name in ids:
        if name not in known:
            raise UsageError(f"found no run {name!r}; wanted {', '.join(known)}")
    return [known[name] for name in ids] if ids else list(study.runs)


Told = list[dict[str, str]]  # of every picture: what is known of it beyond its maps


def _picked(split: Images, places: Sequence[int | str | Path]) -> tuple[Images, Told]:
    """The images, and what is told of them: of files not even the class is known."""
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
        return found, [{"name": file.name, "label": ""} for file in files]
    high = max(numbers)
    if high >= len(split):
        raise UsageError(f"found image {high}; wanted 0 to {len(split) - 1}, of the test split")
    found = split.take(torch.tensor(numbers))
    if found.objects is None:
        found = replace(found, objects=torch.zeros(len(found), *split.positions, dtype=torch.bool))
    return found, [
        {"name": f"image {number}: {split.classes[label]}"}
        for number, label in zip(numbers, found.labels.tolist(), strict=True)
    ]


def _read(file: Path, size: tuple[int, ...]) -> torch.Tensor:
    """(3, h, w) in [0, 1]."""
    try:
        with Image.open(file) as picture:
            array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    except UNREADABLE as error:
        raise InputError(f"cannot read picture {file}: {error}; wanted PNG or JPEG") from error
    if array.shape[:2] != size:
        raise InputError(
            f"found a picture of {array.shape[0]} × {array.shape[1]} pixels in {file}; wanted "
            f"{size[0]} × {size[1]}, as the data set has: resize it first"
        )
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _described(gallery: Gallery, told: Told) -> Gallery:
    pictures = tuple(
        picture.model_copy(update=known)
        for picture, known in zip(gallery.pictures, told, strict=True)
    )
    return gallery.model_copy(update={"pictures": pictures})
