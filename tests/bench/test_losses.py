"""What does a loss cost beside a training step?  Forward and backward, over ResNet-20's own step.

Batch 128, both networks ResNet-20, features drawn. The step is forward, cross-entropy, backward and
SGD's update, without the data. Both are timed in turn, so that they meet the same machine, and the
least of each counts, which others on the machine disturb least.

Every loss in the room; one of more than 5% should say in its file why, and a mark tells whether it
mentions the cost of a step.
"""

import inspect
import sys

import pytest
import torch
from bench_tools import timed
from torch import nn
from torch.nn import functional as F

from kdprobe.models.contract import make_body
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs

BATCH, TOTAL, TIMES, MUCH = 128, 50_000, 7, 0.05
SHAPES = {"stage1": (16, 32, 32), "stage2": (32, 16, 16), "stage3": (64, 8, 8), "pooled": (64,)}
FORMS = {  # beside the default
    "fitnet": [{"regressor": "conv_bn_relu"}],
    "rkd": [{"distance": 1, "angle": 0}, {"distance": 0, "angle": 1}],
    "crd": [{"negatives": 1024}],
}
TERMS = [(key, knobs) for key in LOSSES for knobs in ({}, *FORMS.get(key, []))]


def drawn(body: nn.Module, device: torch.device, seed: int, *, grad: bool) -> Outputs:
    """Of a network of 100 classes, beside which another one is trained; `body` looks again."""
    chance = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(BATCH, *shape, generator=chance).to(device)

    features = {name: some(*shape).relu().requires_grad_(grad) for name, shape in SHAPES.items()}
    logits = some(100).requires_grad_(grad)
    rows = torch.randperm(TOTAL, generator=chance)[:BATCH]
    batch = Batch(torch.rand(BATCH, 3, 32, 32, generator=chance).to(device), rows, TOTAL)
    together = torch.stack([logits, some(100)])
    return Outputs(logits, features, batch, look=body, together=together)


def said(loss: nn.Module) -> str:
    """Whether the file of a dear loss tells of its cost."""
    text = inspect.getdoc(sys.modules[type(loss).__module__]) or ""
    told = "of a ResNet-20 step" in text
    return "more than 5%, and its file says why" if told else "more than 5%: SAY WHY in its file"


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

    other = make_body("resnet20", num_classes=100).to(device).requires_grad_(False)
    student = drawn(body, device, 1, grad=True)
    teacher = drawn(other, device, 2, grad=False)
    step()
    with capsys.disabled():
        print(f"\na loss ÷ a step of ResNet-20, batch {BATCH}, on {device.type}")
        for key, knobs in TERMS:
            loss = LOSSES[key].make(**knobs)
            if hasattr(loss, "meet"):
                loss.meet(student, teacher)
            loss.to(device)

            def term(loss: nn.Module = loss) -> None:
                loss(student, teacher, labels).backward(retain_graph=True)
                waited()

            times = TIMES if timed(term)[1] < 1 else 2
            spent = [(timed(term)[1], timed(step)[1]) for _ in range(times)]
            own, whole = (min(seconds) for seconds in zip(*spent, strict=True))
            told = ", ".join(f"{name}={value}" for name, value in knobs.items())
            mark = f"   {said(loss)}" if own / whole > MUCH else ""
            print(f"  {own / whole:6.1%}  {1e3 * own:7.1f} ms  {key}({told}){mark}")
        print(f"          {1e3 * whole:7.1f} ms  the step")
