"""One picture of what every network keeps of chosen images."""

import io
from dataclasses import replace
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
from kdprobe.report.pictures import tiles
from kdprobe.request import Request
from kdprobe.study import load_study

QUICK = {"discarding": FAST["discarding"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("explained") / "hand", RUNS, data=PHOTODIGITS)


def galleries(
    study: Path, places, runs=(), layers=("pooled", "logits"), b=1.0, settings=QUICK, **more
):
    request = Request(layers=layers, device="cpu", settings=settings, **more)
    return seen_on(load_study(study), places, runs, b, request)


def pixels_of(study: Path, place: int) -> np.ndarray:
    """(h, w, 3) uint8 of the test split."""
    split = images_of(load_study(study).data, frozenset())
    return (split.pixels[place].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


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
    Image.fromarray(pixels_of(study, 4)).save(tmp_path / "four.png")
    (own,) = galleries(study, [4], layers=("logits",))
    (file,) = galleries(study, [tmp_path / "four.png"], layers=("logits",))
    assert file.pictures[0].name == "four.png"
    ours, theirs = (g.pictures[0].maps[0].entropy.unpack() for g in (own, file))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95, (
        "but for what is clipped at 3 nats"
    )


def test_of_a_picture_file_no_class_and_no_object_is_told(study, tmp_path):
    Image.fromarray(pixels_of(study, 4)).save(tmp_path / "four.png")
    (file,) = galleries(study, [tmp_path / "four.png"], layers=("logits",))
    assert file.pictures[0].label == ""
    ((_, (plain, *_)),) = tiles(file)
    assert (plain.note, plain.alt) == ("", "Image four.png.")
    (own,) = galleries(study, [4], layers=("logits",))
    ((picture, (plain, *_)),) = tiles(own)
    assert plain.note == f"class {picture.label}"
    assert plain.alt.endswith(f" of class {picture.label}; its object is outlined.")


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(QUICK["discarding"], id="jacobian"),
        pytest.param(
            {"estimator": "fit", "steps": 40, "grid": 8, "level": "image"},
            id="fit",
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("as_files", [False, True])
def test_an_image_alone_has_the_map_that_it_has_beside_others(study, tmp_path, as_files, chosen):
    places = [5, 3, 9]
    if as_files:
        for place in places:
            Image.fromarray(pixels_of(study, place)).save(tmp_path / f"{place}.png")
        places = [tmp_path / f"{place}.png" for place in places]
    how = {"layers": ("logits",), "b": 0.5, "settings": {"discarding": chosen}}
    (together,) = galleries(study, places, **how)
    for beside, place in zip(together.pictures, places, strict=True):
        ((alone,),) = (gallery.pictures for gallery in galleries(study, [place], **how))
        for ours, theirs in zip(alone.maps, beside.maps, strict=True):
            one, two = (entry.entropy.unpack() for entry in (ours, theirs))
            assert one.std() > 0.05
            assert np.abs(one - two).max() < 0.03, "one of 255 steps of a map"
            assert np.array_equal(ours.concepts.unpack(), theirs.concepts.unpack())
            assert ours.found == theirs.found


def test_maps_are_relative_to_the_own_background(study):
    (gallery,) = galleries(study, [3, 5], layers=("logits",))
    for picture in gallery.pictures:
        masks = picture.object.unpack().reshape(8, 4, 8, 4).mean((1, 3)) / 255
        for entry in picture.maps:
            off = entry.entropy.unpack()[masks < 0.5]
            assert np.abs(off).max() < 2.9, "nothing is clipped"
            assert abs(off.mean()) < 0.02


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
    Image.fromarray(pixels_of(study, 4)).save(tmp_path / "chunk.png")
    whole = (tmp_path / "chunk.png").read_bytes()
    start = whole.index(b"IDAT")
    (tmp_path / "chunk.png").write_bytes(whole[: start - 4] + bytes([0, 0, 0, 99]) + whole[start:])
    with pytest.raises(InputError, match=r"cannot read picture .*chunk\.png: broken PNG"):
        _picked(split, [tmp_path / "chunk.png"])
    Image.new("RGB", (8, 9)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"9 × 8 pixels .* wanted 32 × 32"):
        _picked(split, [tmp_path / "small.png"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"foo": {"b": 1}}, r"--set foo\.…: no metric is called 'foo'"),
        ({"cka": {"batsh": 1}}, "no setting 'batsh'; did you mean 'batch'"),
        (
            {"discarding": {"b": 2.0}},
            r"discarding\.b=2\.0; .* wanted --b 2\.0 \(in Python: b=",
        ),
        ({"discarding": {"level": "data"}}, r"level=data; .*would depend on the images beside it"),
        ({"discarding": {"level": "dta"}}, r"discarding\.level is 'dta'; wanted data, image"),
        (
            {"discarding": {"restarts": 3}},
            r"found discarding\.restarts with the estimator jaco",
        ),
    ],
)
def test_settings_without_a_meaning_are_refused(study, settings, told):
    with pytest.raises(UsageError, match=told):
        galleries(study, [1], settings=settings)


@pytest.mark.parametrize("b", ["nan", "inf", "-inf"])
def test_a_threshold_is_a_number(study, b):
    with pytest.raises(UsageError, match=f"found --b {b}; wanted a finite number"):
        galleries(study, [1], b=float(b))


def test_a_threshold_below_the_background_frames_nearly_all(study):
    (gallery,) = galleries(study, [1], layers=("logits",), b=-9.0)
    assert [entry.found for entry in gallery.pictures[0].maps] == [64] * 3


def test_an_image_that_is_all_object_cannot_be_compared(study, monkeypatch):
    split = images_of(load_study(study).data, frozenset())
    full = replace(split, objects=torch.ones_like(split.objects))
    monkeypatch.setattr("kdprobe.explaining.test_images", lambda data, allowed: full)
    with pytest.raises(InputError, match=r"object of image 1: .* leaves no background .*=centre"):
        galleries(study, [1])
    centred = {"discarding": {**QUICK["discarding"], "object": "centre"}}
    assert galleries(study, [1], settings=centred)


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
