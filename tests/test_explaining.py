"""One picture of what every network keeps of chosen images."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import FAST, PHOTODIGITS, RUNS, write_study
from PIL import Image
from pypdf import PdfReader

import kdprobe
from kdprobe.cli import main
from kdprobe.errors import InputError, UsageError
from kdprobe.explaining import _chosen, _picked, seen_on
from kdprobe.probes.lens import test_images as images_of
from kdprobe.request import Request
from kdprobe.study import load_study

QUICK = {"discarding": FAST["discarding"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("explained") / "hand", RUNS, data=PHOTODIGITS)


def galleries(study: Path, places, runs=(), layers=("pooled", "logits"), **more):
    request = Request(layers=layers, device="cpu", settings=QUICK, **more)
    return seen_on(load_study(study), places, runs, 1.0, request)


def test_every_network_is_a_column_and_every_image_a_row(study, tmp_path):
    file = kdprobe.explain(study, [3, 5], out=tmp_path / "maps.png", settings=QUICK)
    with Image.open(file) as picture:
        wide, high = picture.size
        assert picture.format == "PNG"
        assert np.asarray(picture.convert("L")).std() > 10
    assert wide > 1.8 * high, "an image and three networks beside each other, two rows"


def test_the_maps_are_of_the_images_that_were_asked_for(study):
    found = galleries(study, [5, 3])
    split = images_of(load_study(study).data, frozenset())
    assert [gallery.layer for gallery in found] == ["pooled", "logits"]
    for gallery in found:
        assert [picture.name[:7] for picture in gallery.pictures] == ["image 5", "image 3"]
        for picture, place in zip(gallery.pictures, (5, 3), strict=True):
            pixels = torch.from_numpy(picture.pixels.unpack() / 255).permute(2, 0, 1)
            assert (pixels - split.pixels[place]).abs().max() < 0.01
            assert picture.label == split.classes[int(split.labels[place])]
            assert [entry.network for entry in picture.maps] == ["t", "b", "s"]


def test_runs_are_chosen_in_the_order_given(study):
    (gallery,) = galleries(study, [0], runs=("s", "t"), layers=("logits",))
    assert [entry.network for entry in gallery.pictures[0].maps] == ["s", "t"]


def test_a_picture_file_is_seen_as_the_image_it_holds(study, tmp_path):
    split = images_of(load_study(study).data, frozenset())
    array = (split.pixels[4].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(array).save(tmp_path / "four.png")
    (own,) = galleries(study, [4], layers=("logits",))
    (file,) = galleries(study, [tmp_path / "four.png"], layers=("logits",))
    assert file.pictures[0].name == "four.png"
    ours, theirs = (g.pictures[0].maps[0].entropy.unpack() for g in (own, file))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95, (
        "but for what is clipped at 3 nats"
    )


def test_vector_formats_are_written_whole(study, tmp_path):
    pdf = kdprobe.explain(study, [1], out=tmp_path / "a.pdf", settings=QUICK)
    svg = kdprobe.explain(study, [1], out=tmp_path / "a.svg", settings=QUICK)
    assert len(PdfReader(io.BytesIO(pdf.read_bytes())).pages) == 1
    assert svg.read_text().count("<image") >= 4
    assert {file.name for file in tmp_path.iterdir()} == {"a.pdf", "a.svg"}


def test_the_same_call_draws_the_same_bytes(study, tmp_path):
    one, two = (
        kdprobe.explain(study, [2], out=tmp_path / name, settings=QUICK).read_bytes()
        for name in ("one.png", "two.png")
    )
    assert one == two


def test_what_cannot_be_drawn_is_told(study, tmp_path):
    loaded, split = load_study(study), images_of(load_study(study).data, frozenset())
    with pytest.raises(UsageError, match=r"ends in \.png, \.svg, \.pdf"):
        kdprobe.explain(study, [1], out=tmp_path / "a.gif")
    with pytest.raises(UsageError, match="found image 32; wanted 0 to 31"):
        _picked(split, [1, 32])
    with pytest.raises(UsageError, match="found no image"):
        _picked(split, [])
    with pytest.raises(UsageError, match="places and files"):
        _picked(split, [1, "a.png"])
    with pytest.raises(UsageError, match="found no run 'x'; wanted t, b, s"):
        _chosen(loaded, ["x"])
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(InputError, match="cannot read picture"):
        _picked(split, [tmp_path / "no.png"])
    Image.new("RGB", (8, 9)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"9 × 8 pixels .* wanted 32 × 32"):
        _picked(split, [tmp_path / "small.png"])


def test_the_verb_prints_the_file(study, tmp_path, capsys, monkeypatch):
    out = tmp_path / "drawn.png"
    words = ["explain", str(study), "3", "--out", str(out), "--runs", "t,s", "--device", "cpu"]
    words += ["--set", "discarding.probes=4", "--set", "discarding.noises=4"]
    monkeypatch.setattr("sys.argv", ["kdprobe", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.is_file()
