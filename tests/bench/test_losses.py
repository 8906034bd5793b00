"""What does a loss cost beside a training step?  Forward and backward, over ResNet-20's own step.

Batch 128, both networks ResNet-20, features drawn. The step is forward, cross-entropy, backward and
SGD's update, without the data. Both are timed in turn, so that they meet the same machine, and the
least of each counts, which others on the machine disturb least.
"""

import pytest
import torch
from bench_tools import timed
from torch.nn import functional as F

from kdprobe.models.contract import make_body
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs

BATCH, TOTAL, TIMES = 128, 50_000, 7
SHAPES = {"stage1": (16, 32, 32), "stage2": (32, 16, 16), "stage3": (64, 8, 8), "pooled": (64,)}
TERMS = (
    ("fitnet", {}),
    ("fitnet", {"regressor": "conv_bn_relu"}),
    ("at", {}),
    ("sp", {}),
    ("rkd", {"distance": 1, "angle": 0}),
    ("rkd", {"distance": 0, "angle": 1}),
    ("rkd", {}),
    ("fsp", {}),
    ("pkt", {}),
    ("nst", {}),
    ("cc", {}),
    ("vid", {}),
    ("crd", {"negatives": 1024}),
    ("crd", {}),
)


def drawn(device: torch.device, seed: int, *, grad: bool) -> Outputs:
    chance = torch.Generator().manual_seed(seed)
    features = {
        name: torch.randn(BATCH, *shape, generator=chance).relu().to(device).requires_grad_(grad)
        for name, shape in SHAPES.items()
    }
    rows = torch.randperm(TOTAL, generator=chance)[:BATCH]
    batch = Batch(torch.zeros(BATCH, 3, 32, 32), rows, TOTAL)
    return Outputs(torch.zeros(BATCH, 100, device=device), features, batch)


@pytest.mark.bench
def test_each_loss_against_a_step_of_resnet20(capsys: pytest.CaptureFixture[str]) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    body = make_body("resnet20", num_classes=100).to(device)
    learning = torch.optim.SGD(body.parameters(), lr=0.01, momentum=0.9, foreach=True)
    pixels, labels = torch.rand(BATCH, 3, 32, 32, device=device), torch.arange(BATCH) % 100
    labels = labels.to(device)

    def waited(value: object = None) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def step() -> None:
        learning.zero_grad(set_to_none=True)
        F.cross_entropy(body(pixels), labels).backward()
        learning.step()
        waited()

    student, teacher = drawn(device, 1, grad=True), drawn(device, 2, grad=False)
    step()
    with capsys.disabled():
        print(f"\na loss ÷ a step of ResNet-20, batch {BATCH}, on {device.type}")
        for key, knobs in TERMS:
            loss = LOSSES[key].make(**knobs)

            def term(loss: torch.nn.Module = loss) -> None:
                loss(student, teacher, labels).backward()
                waited()

            term()
            spent = [(timed(term)[1], timed(step)[1]) for _ in range(TIMES)]
            own, whole = (min(seconds) for seconds in zip(*spent, strict=True))
            told = ", ".join(f"{name}={value}" for name, value in knobs.items())
            print(f"  {own / whole:6.1%}  {1e3 * own:7.1f} ms  {key}({told})")
        print(f"          {1e3 * whole:7.1f} ms  the step")
