"""Knowledge points beyond pixels: a whole analysis of networks that read sequences of vectors."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import kdprobe
from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError

TOKENS, WIDTH, TELLING = 9, 4, 3  # the first three tokens hold the class
NETWORK = '{ factory = "test_sequences:reader", num_classes = 2, mean = [0.0], std = [1.0] }'
SMALL = {
    "discarding": {"probes": 16, "noises": 8, "sweep": (0.2, 0.5), "level": "image"},
    "accuracy": {"images": 24},
    "cka": {"images": 8, "batch": 8},
    "landscape": {"images": 8, "points": 3, "directions": 1, "plane_points": 3},
}


class Reader(nn.Module):
    """Weighs every token by a gain of its own, then mixes."""

    def __init__(self, gains: torch.Tensor) -> None:
        super().__init__()
        self.gains = nn.Parameter(gains)
        self.embed = nn.Linear(WIDTH, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.embed(x * self.gains[:, None]).tanh().sum(1)
        return self.head(mixed)


def reader(num_classes: int) -> nn.Module:
    return Reader(torch.ones(TOKENS))


def sentences(split: str) -> Images:
    chance = torch.Generator().manual_seed(len(split))
    labels = torch.arange(24) % 2
    x = torch.randn(24, TOKENS, WIDTH, generator=chance) * 0.1
    x[:, :TELLING, 0] += labels[:, None] * 0.2
    objects = torch.zeros(24, TOKENS, dtype=torch.bool)
    objects[:, :TELLING] = True
    words = (torch.arange(TOKENS) // TELLING).expand(24, -1).contiguous()
    return Images(x, labels, ("no", "yes"), objects, words)


def weights(seed: int, gain: float) -> dict[str, torch.Tensor]:
    """A reader that answers `gain` times as strongly to the telling tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        gains = torch.ones(TOKENS)
        gains[:TELLING] = gain
        return dict(Reader(gains).state_dict())


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Students attend to the telling tokens alone, baselines to none in particular."""
    import sys

    monkeypatch.setitem(sys.modules, "test_sequences", sys.modules[__name__])
    lines = ['name = "words"', 'data = { factory = "test_sequences:sentences" }']
    for role, gain in (("baseline", 1.0), ("student", 4.0)):
        for seed in range(3):
            folder = tmp_path / f"{role}{seed}"
            folder.mkdir()
            for epoch in (0, 1):
                save_file(
                    weights(seed, gain if epoch else 1.0), folder / f"epoch-{epoch}.safetensors"
                )
            network = (
                '{ factory = "test_sequences:reader", num_classes = 2, mean = [0.0], std = [1.0] }'
            )
            lines += ["[[runs]]", f'id = "{role}{seed}"', f'role = "{role}"', f"seed = {seed}"]
            lines += [f"network = {network}"]
    (tmp_path / "study.toml").write_text("\n".join(lines))
    return tmp_path


def concepts(study: Path, tmp_path: Path, **more):
    results = kdprobe.analyze(
        study,
        out=tmp_path / "out",
        device="cpu",
        allow_code=("test_sequences",),
        **{"settings": SMALL, "layers": ("embed", "logits"), **more},
    )
    return results, results.metric("concepts").values["runs"]


def test_tokens_are_units_and_planted_ones_are_concepts(study, tmp_path):
    results, runs = concepts(study, tmp_path)
    for seed in range(3):
        ours, theirs = runs[f"student{seed}"]["logits"], runs[f"baseline{seed}"]["logits"]
        assert sum(ours["foreground"][0]) == 24 * TELLING, "all of them, in every sequence"
        assert sum(ours["background"][1]) < 6, "at b = 0.5"
        assert min(ours["auroc"]) > 0.99
        assert sum(theirs["auroc"]) / 24 < 0.9
    (verdict,) = [v for v in results.verdicts if v.claim == "H1" and v.layer == "logits"]
    assert verdict.estimates[0].effect > 0
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert {report.key for report in results.metrics if report.status == "measured"} >= {
        "accuracy",
        "concepts",
        "landscape",
        "simultaneity",
        "stability",
    }


@pytest.mark.parametrize(
    ("estimator", "own"),
    [
        ("jacobian", {"probes": 16, "noises": 8}),
        ("fit", {"steps": 40}),
        pytest.param("paper", {}, marks=pytest.mark.slow),
    ],
)
def test_parts_of_sequences_are_units_for_every_estimator(study, tmp_path, estimator, own):
    cut = {"sweep": (0.2, 0.5), "level": "image", "units": "parts", **own}
    _, runs = concepts(
        study,
        tmp_path,
        layers=("logits",),
        estimator=estimator,
        metrics=("concepts",),
        settings={**SMALL, "discarding": cut},
        report=False,
    )
    found = runs["student0"]["logits"]
    known = [n for n in found["foreground"][0] if n is not None]
    assert known, "some sequence is left by the paper's filter"
    assert set(known) == {1.0}, "the one word on the object"


def test_cells_of_sequences_are_refused(study, tmp_path):
    cut = {**SMALL["discarding"], "units": "cells"}
    with pytest.raises(InputError, match="wanted tokens"):
        concepts(study, tmp_path, settings={"discarding": cut}, metrics=("concepts",))


@pytest.mark.parametrize("what", [0, "picture.png"])
def test_sequences_are_not_drawn(study, tmp_path, what):
    if what:
        Image.new("RGB", (TOKENS, WIDTH)).save(what := tmp_path / what)
    with pytest.raises(InputError, match="sequences; explain draws images"):
        kdprobe.explain(study, [what], out=tmp_path / "a.png", allow_code=("test_sequences",))
