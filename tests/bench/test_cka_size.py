"""Does CKA grow as it should?  Images, layers and checkpoints doubled: time and memory.

Each look runs in a process of its own, once small to warm up and then once measured: the time of
its thread, and the most memory that it had beyond what it began with, networks and images among
that. The memory is to grow with layers, not with images.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdprobe.datasets.contract import Images
from kdprobe.manifest import DataEntry
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.contract import PROBES
from kdprobe.probes.lens import Lens

HOW = {"kernel": "linear", "bandwidth": 0.8, "estimator": "debiased", "precision": "float32"}
BATCH = 64
SMALL = {"images": 256, "layers": 5, "checkpoints": 2}


class Bench(Lens):
    """A lens that lends networks, already read."""

    def network(self, checkpoint: Network) -> Network:  # type: ignore[override]  # no file behind
        return checkpoint


def bodies(count: int) -> list[Network]:
    torch.manual_seed(0)
    made = [make_body("resnet20", num_classes=10, width=8) for _ in range(count)]
    return [Network(b, (0.0,) * 3, (1.0,) * 3).eval().requires_grad_(False) for b in made]


def lens_of(count: int) -> Bench:
    pixels = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.zeros(count, dtype=torch.int64), ("a",), None)
    return Bench(torch.device("cpu"), DataEntry(name="digits"), count, 0, chosen=images)


def look(probe: str, lens: Lens, networks: list[Network], layers: int) -> None:
    names = [n for n, _ in networks[0].body.named_modules() if n.endswith(("relu1", "relu2"))]
    names = (names + ["relu", "avgpool", "fc"])[:layers]
    if probe == "hsic":
        each = tuple(f"{i}/{name}" for i in range(len(networks)) for name in names)
        more = {"layers": each, "references": 1, "permutations": 20}
    else:
        more = {"layers": tuple(names)}
    PROBES[probe].look(networks, lens, batch=BATCH, **more, **HOW)


def said(what: str) -> int:
    """KiB of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what)))


def measure(probe: str, images: int, layers: int, checkpoints: int) -> None:
    """Print seconds and MiB of one look."""
    torch.set_num_threads(1)
    networks, lens = bodies(checkpoints), lens_of(images)
    look(probe, lens_of(BATCH), networks, 1)
    Path("/proc/self/clear_refs").write_text("5")  # forget the most memory so far
    before, start = said("VmRSS"), time.process_time()
    look(probe, lens, networks, layers)
    print(json.dumps([time.process_time() - start, (said("VmHWM") - before) / 1024]))


def measured(probe: str, **size: int) -> tuple[float, float]:
    asked = SMALL | size
    call = ", ".join(f"{name}={value}" for name, value in asked.items())
    done = subprocess.run(
        [sys.executable, "-c", f"import test_cka_size as t; t.measure({probe!r}, {call})"],
        check=True,
        cwd=Path(__file__).parent,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"},
        stdout=subprocess.PIPE,
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


@pytest.mark.bench
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's own counts")
@pytest.mark.parametrize("probe", ["hsic", "course"])
def test_sizes_doubled(probe: str, capsys: pytest.CaptureFixture[str]) -> None:
    series = {
        "images": (256, 512, 1024, 2048),
        "layers": (5, 10, 20),
        "checkpoints": (2, 4, 8),
    }
    found = {what: [measured(probe, **{what: n}) for n in sizes] for what, sizes in series.items()}
    with capsys.disabled():
        print(
            f"\n{probe}: ResNet-20, {SMALL}, batches of {BATCH}; seconds and MiB beyond the start"
        )
        for what, sizes in series.items():
            told = "  ".join(
                f"{n}: {seconds:.2f} s {peak:.0f} MiB"
                for n, (seconds, peak) in zip(sizes, found[what], strict=True)
            )
            print(f"  {what:12} {told}")
    peaks = [peak for _, peak in found["images"]]
    assert max(peaks) < 1.3 * min(peaks) + 4, "eight times the images, the same memory"
