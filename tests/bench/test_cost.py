"""What do all layers and checkpoints of a run cost, in time and in memory?"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bench_tools import LAYERS, demo, timed
from torch.func import functional_call, stack_module_state, vmap

from kdprobe.loading import load_network
from kdprobe.manifest import DataEntry
from kdprobe.metrics.scope import Discarding
from kdprobe.probes.jacobian import PILOT, jacobian
from kdprobe.probes.lens import Lens

IMAGES, ROWS = 64, 128
CUT = Discarding()


@pytest.mark.bench
def test_all_layers_and_checkpoints_against_their_backward_passes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, split = demo()
    images = split.sample(IMAGES, seed=0)
    checkpoints = run.checkpoints[-4:]
    lens = Lens(torch.device("cpu"), DataEntry(name="photodigits"), IMAGES, 0, chosen=images)

    def everything() -> None:
        for checkpoint in checkpoints:
            jacobian([checkpoint], lens, layers=LAYERS, **CUT.asked)

    everything()
    rows, alone, whole = _backward_passes(monkeypatch, everything)
    assert rows == IMAGES * (2 * PILOT + CUT.probes) * len(LAYERS) * len(checkpoints)
    with capsys.disabled():
        print(f"\n{len(LAYERS)} layers of {len(checkpoints)} checkpoints, {IMAGES} images")
        print(f"  whole ÷ backward passes alone: {whole / alone:.2f}")


def _backward_passes(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
) -> tuple[int, float, float]:
    """How many rows go through a backward pass of `work`, each for itself; the seconds of these
    passes; and those of all the work. Of one run, so that both meet the same machine.
    """
    rows, seconds, grad = [], [], torch.autograd.grad

    def counted(output: torch.Tensor, x: torch.Tensor, *rest: object, **more: object) -> object:
        rows.append(len(x))
        found, spent = timed(lambda: grad(output, x, *rest, **more))
        seconds.append(spent)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", counted)
        _, whole = timed(work)
    return sum(rows), sum(seconds), whole


@pytest.mark.bench
def test_stacked_checkpoints_against_a_loop(capsys: pytest.CaptureFixture[str]) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run, split = demo()
    networks = [load_network(checkpoint, device) for checkpoint in run.checkpoints]
    pixels = split.sample(ROWS, seed=0).pixels.to(device)
    parameters, buffers = stack_module_state(networks)

    def one(weights: object, rest: object, x: torch.Tensor) -> torch.Tensor:
        return functional_call(networks[0], (weights, rest), (x,))

    def stacked() -> torch.Tensor:
        x = pixels.expand(len(networks), -1, -1, -1, -1).clone().requires_grad_()
        with torch.enable_grad():
            logits = vmap(one)(parameters, buffers, x)
            (gradient,) = torch.autograd.grad(logits, x, torch.ones_like(logits))
        return gradient.sum((1, 2)).cpu()

    def loop() -> torch.Tensor:
        found = []
        for network in networks:
            x = pixels.clone().requires_grad_()
            with torch.enable_grad():
                logits = network(x)
                found.append(torch.autograd.grad(logits, x, torch.ones_like(logits))[0])
        return torch.stack(found).sum((1, 2)).cpu()

    one_by_one, together = loop(), stacked()
    off = float((one_by_one - together).norm() / one_by_one.norm())
    _, looped = timed(loop, times=5)
    _, at_once = timed(stacked, times=5)
    with capsys.disabled():
        print(f"\n{len(networks)} checkpoints, forward and backward on {device.type}")
        print(f"  stacked ÷ loop: {at_once / looped:.2f} (relative difference {off:.0e})")
    assert off < 1e-2


@pytest.mark.bench
@pytest.mark.parametrize("part", ["looking", "reckoning"])
def test_memory_of_a_large_study(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"import large_study; large_study.{part}(); large_study.say_peak()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
    )
    peak = int(done.stdout) / 2**20
    with capsys.disabled():
        print(f"\nResNet-56, 1,000 images, 15 checkpoints, 4 layers, {part}: peak {peak:.2f} GiB")
    assert peak < 4
