"""Made-up attribution maps: a blob that speaks for the class, and noise against it."""

import numpy as np
from specimen_label import labelled

from kdprobe.panels import AttributionMap, AttributionPicture, Bytes, Overlays
from kdprobe.results import MetricReport

SIDE = 32


def attributions() -> MetricReport:
    """Two images by two methods, one of them without an object."""
    return labelled(
        "attributions",
        "Attribution maps",
        "Does the student look where its teacher does?",
        [panel()],
    )


def panel() -> Overlays:
    """Four rows of three networks."""
    return Overlays(
        title="Where the networks look",
        how_to_read="Orange speaks for the class, blue against it.",
        pictures=tuple(_picture(number) for number in range(2)),
    )


def _picture(number: int) -> AttributionPicture:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    blob = np.exp(-20 * ((x - 0.4 - 0.2 * number) ** 2 + (y - 0.5) ** 2))
    pixels = np.stack([x, y, blob], axis=-1) * 255
    rng = np.random.default_rng(number)
    networks = (("teacher", "teacher"), ("baseline-seed0", "baseline"), ("kd-seed0", "student"))
    return AttributionPicture(
        name=f"test-{number:04d}",
        label=str(number),
        pixels=Bytes.pack(pixels),
        object=Bytes.pack((blob > 0.3) * 255.0) if number == 0 else None,
        maps=tuple(
            AttributionMap(
                method=method,
                network=name,
                role=role,
                values=Bytes.pack(blob - 0.2 * rng.random((SIDE, SIDE)), -1.0, 1.0),
                note="" if role == "teacher" else "r = 0.50",
            )
            for method in ("IG", "occlusion")
            for name, role in networks
        ),
    )
