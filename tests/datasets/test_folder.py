"""Folders of images: pixels against numpy, masks, sizes, order, and nothing left out in silence."""

import logging

import numpy as np
import pytest
import torch
from archives import CLASSES, save, write_folder
from PIL import Image

from kdprobe.datasets import _memory
from kdprobe.datasets.contract import DATASETS
from kdprobe.errors import InputError


def make(root, split="train", **knobs):
    return DATASETS["folder"].make(split, folder=str(root), **knobs)


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "images")


def pixels_of(file):
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("workers", [1, 3])
def test_every_image_is_there_in_the_order_of_the_names(root, workers):
    found = make(root, workers=workers)
    files = sorted((root / "train").rglob("*.png"))
    assert torch.equal(found.pixels, torch.stack([pixels_of(file) for file in files]))
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.classes == CLASSES
    assert found.objects is None
    assert len(make(root, "test")) == 4
    assert make(root, seed=1).digest() == make(root, seed=2).digest()


def test_more_images_than_a_thread_takes_in_a_row_keep_their_order(tmp_path):
    for number in range(150):
        save(np.full((4, 4, 3), number, np.uint8), tmp_path / "test" / "a" / f"{number:03}.png")
    found = make(tmp_path, "test", size=4)
    assert (found.pixels[:, 0, 0, 0] * 255).round().tolist() == list(range(150))


def test_hidden_files_are_no_images_and_folders_inside_a_class_belong_to_it(root):
    (root / "train" / "ant" / ".DS_Store").write_bytes(b"x")
    (root / "train" / ".cache").mkdir()
    save(np.zeros((32, 32, 3), np.uint8), root / "train" / "ant" / "more" / "deep.png")
    assert len(make(root)) == 7


@pytest.mark.parametrize(
    ("kind", "level", "wanted"),
    [
        ("grey", np.full((32, 32), 51, np.uint8), (0.2, 0.2, 0.2)),
        ("grey 16", np.full((32, 32), 13107, np.uint16), (0.2, 0.2, 0.2)),
        ("alpha", np.full((32, 32, 4), (51, 102, 0, 7), np.uint8), (0.2, 0.4, 0.0)),
        ("bits", np.full((32, 32), True), (1.0, 1.0, 1.0)),
    ],
)
def test_every_kind_of_image_becomes_three_channels(tmp_path, kind, level, wanted):
    save(level, tmp_path / "test" / "a" / "0.png")
    found = make(tmp_path, "test").pixels[0]
    assert torch.allclose(found, torch.tensor(wanted).view(3, 1, 1).expand(3, 32, 32), atol=1e-6)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "gif", "tiff"])
def test_other_formats_are_read(tmp_path, suffix):
    save(np.full((32, 32, 3), 128, np.uint8), tmp_path / "test" / "a" / f"0.{suffix}")
    assert torch.allclose(make(tmp_path, "test").pixels, torch.tensor(128 / 255), atol=0.02)


def test_palettes_are_read_by_their_colours(tmp_path):
    picture = Image.new("P", (32, 32), 1)
    picture.putpalette([0, 0, 0, 255, 51, 0])
    (tmp_path / "test" / "a").mkdir(parents=True)
    picture.save(tmp_path / "test" / "a" / "0.png")
    found = make(tmp_path, "test").pixels[0, :, 3, 3]
    assert torch.allclose(found, torch.tensor([1.0, 0.2, 0.0]))


def test_an_image_is_shrunk_by_its_shorter_side_and_cut_in_the_middle(tmp_path):
    """Flat blocks of 4 x 4 pixels, twice as wide as high: the middle blocks are left."""
    wide = np.kron(np.arange(8 * 16).reshape(8, 16), np.ones((4, 4))).astype(np.uint8)
    save(np.stack([wide] * 3, 2), tmp_path / "test" / "a" / "wide.png")
    save(np.stack([wide.T] * 3, 2), tmp_path / "test" / "a" / "tall.png")
    tall, wide_ = (make(tmp_path, "test", size=32).pixels[row, 0] * 255 for row in (0, 1))
    middle = torch.from_numpy(wide[:, 16:48].astype(np.float32))
    assert torch.equal(wide_.round(), middle)
    assert torch.equal(tall.round(), middle.T)
    small = make(tmp_path, "test", size=8).pixels[1, 0] * 255  # bilinear over what it covers
    blocks = torch.arange(8 * 16.0).view(8, 16)[:, 4:12]
    assert torch.allclose(small[1:-1, 1:-1], blocks[1:-1, 1:-1], atol=1.01)
    assert make(tmp_path, "test", size=50).pixels.shape == (2, 3, 50, 50)


@pytest.fixture
def masked(root, tmp_path):
    """Masks of the training images: a square whose place is the image's number."""
    for name in CLASSES:
        for number in range(3):
            on = np.zeros((32, 32), np.uint8)
            on[4 * number : 4 * number + 8, 2:6] = 1 + number  # any number but 0
            save(on, tmp_path / "masks" / "train" / name / f"{number}.png")
    return tmp_path / "masks"


def test_masks_lie_beside_the_images(root, masked):
    found = make(root, masks=str(masked))
    assert found.objects.shape == (6, 32, 32)
    for row in range(6):
        wanted = torch.zeros(32, 32, dtype=torch.bool)
        wanted[4 * (row % 3) : 4 * (row % 3) + 8, 2:6] = True
        assert torch.equal(found.objects[row], wanted)


def test_masks_are_shrunk_as_their_images_are(root, masked):
    found = make(root, masks=str(masked), size=16)
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[:4, 1:3] = True
    assert torch.equal(found.objects[0], wanted)


def test_the_number_of_a_palette_is_the_mask_and_its_ending_does_not_matter(tmp_path):
    save(np.full((8, 8, 3), 9, np.uint8), tmp_path / "images" / "test" / "a" / "0.jpg")
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([255, 255, 255, 0, 0, 0])  # 0 is white, 1 is black
    picture.putpixel((5, 2), 1)
    (tmp_path / "masks" / "test" / "a").mkdir(parents=True)
    picture.save(tmp_path / "masks" / "test" / "a" / "0.png")
    found = make(tmp_path / "images", "test", masks=str(tmp_path / "masks"), size=8)
    assert found.objects[0].nonzero().tolist() == [[2, 5]]


def test_images_that_cannot_be_read_are_counted_and_named(root):
    for number in range(7):
        (root / "train" / "bee" / f"x{number}.png").write_bytes(b"no image")
    whole = (root / "train" / "ant" / "1.png").read_bytes()
    (root / "train" / "ant" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="found 8 of 13 images in ") as caught:
        make(root)
    told = str(caught.value)
    assert "ant/1.png (" in told
    assert "bee/x0.png (UnidentifiedImageError" in told
    assert "bee/x4.png" not in told  # five are named
    assert "and 3 more" in told
    assert 'leave them out by unreadable="skip"' in told


def test_they_are_left_out_only_when_asked_and_never_in_silence(root, caplog):
    whole = make(root)
    (root / "train" / "ant" / "1.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="kdprobe"):
        found = make(root, unreadable="skip")
    assert "left out 1 of 6 images" in caplog.text
    assert "ant/1.png" in caplog.text
    rows = torch.tensor([0, 2, 3, 4, 5])
    assert torch.equal(found.pixels, whole.pixels[rows])
    assert torch.equal(found.labels, whole.labels[rows])


def test_nothing_readable_is_refused_whatever_is_asked(tmp_path):
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a" / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"found 1 of 1 images .*: mend or remove these files$"):
        make(tmp_path, "test", unreadable="skip")


def test_an_image_without_its_mask_or_with_one_of_another_size_is_told(root, masked, caplog):
    (masked / "train" / "ant" / "0.png").unlink()
    save(np.ones((5, 5), np.uint8), masked / "train" / "bee" / "2.png")
    with pytest.raises(InputError, match="found 2 of 6 images") as caught:
        make(root, masks=str(masked))
    assert "ant/0.png (ValueError: it has no mask)" in str(caught.value)
    assert "bee/2.png (ValueError: its mask has (5, 5) pixels, the image (32, 32))" in str(
        caught.value
    )
    assert len(make(root, masks=str(masked), unreadable="skip").objects) == 4
    with pytest.raises(InputError, match=r"found no folder .*; wanted the masks there"):
        make(root, masks=str(masked / "nowhere"))


def test_floating_point_pixels_of_no_known_range_are_told(tmp_path):
    save(np.ones((8, 8), np.float32), tmp_path / "test" / "a" / "0.tiff")
    with pytest.raises(InputError, match="floating-point numbers of no known range"):
        make(tmp_path, "test")


def test_folders_that_are_not_as_wanted_are_told(root, tmp_path):
    with pytest.raises(InputError, match=r"found nothing in .*; wanted the folders 'train' and"):
        make(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"found ant, bee in .*; wanted the folders"):
        make(root / "train")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"found no folder in .*; wanted one for every class"):
        make(tmp_path / "empty")
    (tmp_path / "empty" / "train" / "a").mkdir()
    with pytest.raises(InputError, match="found no file in the classes of"):
        make(tmp_path / "empty")
    (root / "test" / "cow").mkdir()
    with pytest.raises(InputError, match=r"in one split of .* only: cow; wanted the same"):
        make(root)
    with pytest.raises(InputError, match="found split 'val'"):
        make(root, "val")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"size": 0}, "found size=0; wanted a whole number"),
        ({"size": 32.0}, "found size=32.0"),
        ({"workers": True}, "found workers=True"),
        ({"unreadable": "ignore"}, "found unreadable='ignore'; wanted \"refuse\" or"),
    ],
)
def test_senseless_settings_are_refused(root, knobs, message):
    with pytest.raises(InputError, match=message):
        make(root, **knobs)


def test_memory_is_asked_for_before_anything_is_read(root, monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 2**30)
    for file in (root / "train").rglob("*.png"):
        file.write_bytes(b"no image")  # would be told of if they were read
    with pytest.raises(
        InputError, match=r"found 1.0 GiB .*; wanted 10.1 GiB for 6 images of 10000 x"
    ):
        make(root, size=10_000)


def test_want_of_memory_while_reading_is_no_broken_file(root, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("kdprobe.datasets.folder._square", full)
    with pytest.raises(MemoryError):
        make(root)
