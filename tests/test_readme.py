"""What the README shows works as it stands there."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from handmade import FAST
from safetensors.torch import save_file

import kdprobe
from kdprobe.metrics.contract import METRICS
from kdprobe.train.plan import cohorts
from kdprobe.train.recipe import settle

README = Path(__file__).parent.parent / "README.md"


def block(language: str, containing: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
    return next(text for text in found if containing in text)


@pytest.fixture
def own_study(tiny_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The README's study.toml and my_code.py, around checkpoints that fit them."""
    study = kdprobe.load_study(tiny_study)
    width = study.students[0].entry.network.arguments["width"]
    text = block("toml", "my study").replace("width = 8", f"width = {width}")
    (tmp_path / "study.toml").write_text(text)
    (tmp_path / "my_code.py").write_text(block("python", "# my_code.py"))
    for run, source in {"baseline-0": "baseline", "kd-0": "kd"}.items():
        shutil.copytree(next(tiny_study.glob(f"{source}*")), tmp_path / run)
    (tmp_path / "teacher").mkdir()
    chance = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (16, 3, 3, 3), "0.bias": (16,), "3.weight": (10, 14400), "3.bias": (10,)}
    weights = {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "teacher" / "last.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_code", raising=False)
    return tmp_path


def test_own_checkpoints(own_study: Path) -> None:
    assert tomllib.loads((own_study / "study.toml").read_text())["name"] == "my study"
    results = kdprobe.analyze(
        own_study, images=4, settings=FAST, allow_code=["my_code"], report=False
    )
    assert [run.id for run in results.study.runs] == ["teacher", "baseline-0", "kd-0"]
    assert results.metric("concepts").status == "measured"
    assert {v.outcome for v in results.verdicts} == {"undecided"}  # one seed decides nothing


def test_add_a_metric(tiny_study: Path, tmp_path: Path) -> None:
    assert "confidence" not in METRICS
    exec(compile(block("python", '"confidence"'), "README.md", "exec"), {})
    try:
        results = kdprobe.analyze(
            tiny_study, out=tmp_path, metrics=["confidence"], images=4, report=False
        )
    finally:
        METRICS._entries.pop("confidence")
    runs = results.metric("confidence").values["runs"]
    assert set(runs) == {run.id for run in results.study.runs}
    assert all(0.1 <= p <= 1 for p in runs.values())


def test_the_recipe_is_sound() -> None:
    recipe = settle(tomllib.loads(block("toml", "my-study")), title="README")
    assert [cohort.name for cohort in cohorts(recipe)] == ["teacher", "seed0", "seed1", "seed2"]
    assert len(recipe.arms) == 6


def test_every_metric_is_named() -> None:
    text = README.read_text("utf-8")
    assert [key for key in METRICS if f"`{key}`" not in text] == []


def test_the_python_example_names_what_exists() -> None:
    text = block("python", "import kdprobe\n\nresults")
    for name in re.findall(r"kdprobe\.(\w+)\(", text):
        assert callable(getattr(kdprobe, name))


def test_three_pictures_are_shown_and_are_small() -> None:
    shown = re.findall(r"!\[[^]]+\]\((\S+\.png)\)", README.read_text())
    assert len(shown) == 3
    assert all((README.parent / name).stat().st_size <= 300_000 for name in shown)
