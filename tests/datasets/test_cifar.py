"""CIFAR out of small archives written here: bytes against a plain reading, and what is refused."""

import gzip
import logging
import re

import pytest
from archives import TEST, TRAIN, packed, records, write_cifar10, write_cifar100, write_folder

from kdprobe.datasets import _memory
from kdprobe.datasets.cifar import HUNDRED, TEN
from kdprobe.datasets.contract import DATASETS
from kdprobe.errors import InputError


def make(key, split, folder):
    return DATASETS[key].make(split, folder=str(folder))


@pytest.fixture
def ten(tmp_path):
    return write_cifar10(tmp_path / "cifar-10-batches-bin")


@pytest.fixture
def hundred(tmp_path):
    return write_cifar100(tmp_path / "cifar-100-binary")


def test_every_byte_of_cifar10_is_where_it_belongs(ten):
    found = make("cifar10", "train", ten)
    assert len(found) == 5 * TRAIN
    content = b"".join((ten / f"data_batch_{i}.bin").read_bytes() for i in range(1, 6))
    for row in range(len(found)):
        record = content[3073 * row : 3073 * (row + 1)]
        assert int(found.labels[row]) == record[0]
        for d, i, j in ((0, 0, 0), (0, 0, 31), (1, 5, 7), (2, 31, 0), (2, 31, 31)):
            level = record[1 + 1024 * d + 32 * i + j]
            assert float(found.pixels[row, d, i, j]) == pytest.approx(level / 255, abs=1e-7)
    assert found.classes == TEN
    assert found.objects is None
    assert found.pixels.is_contiguous()


def test_every_byte_of_cifar100_is_where_it_belongs(hundred):
    found = make("cifar100", "test", hundred)
    content = (hundred / "test.bin").read_bytes()
    assert found.labels.tolist() == [
        content[3074 * row + 1] for row in range(TEST)
    ]  # the fine ones
    assert float(found.pixels[1, 0, 0, 0]) == pytest.approx(content[3074 + 2] / 255, abs=1e-7)
    assert float(found.pixels[1, 2, 31, 31]) == pytest.approx(content[2 * 3074 - 1] / 255, abs=1e-7)
    assert len(make("cifar100", "train", hundred)) == 5 * TRAIN
    assert found.classes == HUNDRED
    assert len(set(HUNDRED)) == 100
    assert list(HUNDRED) == sorted(HUNDRED)


@pytest.mark.parametrize("key", ["cifar10", "cifar100"])
def test_the_archive_its_folder_and_the_folder_around_it_are_the_same(key, ten, hundred, tmp_path):
    folder = ten if key == "cifar10" else hundred
    archive = packed(folder, tmp_path / "binary.tar.gz")
    for split in ("train", "test"):
        digests = {make(key, split, place).digest() for place in (folder, tmp_path, archive)}
        assert len(digests) == 1


def test_class_names_are_those_of_the_archive(ten, hundred):
    names = [f"kind{k}" for k in range(10)]
    (ten / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    assert make("cifar10", "test", ten).classes == tuple(names)
    (ten / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(
        InputError, match=r"found 2 class names in 'batches.meta.txt' .*; wanted 10"
    ):
        make("cifar10", "test", ten)
    (hundred / "fine_label_names.txt").write_text("\n".join(HUNDRED[::-1]))
    assert make("cifar100", "test", hundred).classes == HUNDRED[::-1]


def test_other_counts_than_the_official_are_told(ten, caplog):
    with caplog.at_level(logging.WARNING, logger="kdprobe"):
        make("cifar10", "test", ten)
    assert f"test_batch.bin: {TEST} images; the official file has 10000" in caplog.text


def test_a_seed_changes_nothing(ten):
    one, two = (DATASETS["cifar10"].make("test", folder=str(ten), seed=s) for s in (0, 1))
    assert one.digest() == two.digest()


@pytest.mark.parametrize("content", [b"", b"x" * 3072, records(2, 0, 1, 10)[:-1]])
def test_a_file_that_is_cut_off_is_refused(ten, content):
    (ten / "data_batch_3.bin").write_bytes(content)
    wanted = f"found {len(content):,} bytes in 'data_batch_3.bin' .*; wanted .* 3,073 bytes"
    with pytest.raises(InputError, match=wanted):
        make("cifar10", "train", ten)


def test_a_label_that_is_no_class_is_refused(ten):
    (ten / "test_batch.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(InputError, match="found labels 10 to 10; wanted 0 to 9"):
        make("cifar10", "test", ten)


def test_what_is_not_there_is_told(ten, hundred, tmp_path):
    with pytest.raises(InputError, match=r"found nothing at .*; wanted cifar-10-binary.tar.gz"):
        make("cifar10", "test", tmp_path / "nowhere")
    (ten / "data_batch_2.bin").unlink()
    with pytest.raises(InputError, match=r"wanted data_batch_2.bin of cifar-10-binary"):
        make("cifar10", "train", ten)
    with pytest.raises(InputError, match=r"found test.bin, train.bin in .*; wanted test_batch.bin"):
        make("cifar10", "test", hundred)
    with pytest.raises(InputError, match=r"found test/, train/ in .* by the data set 'folder'"):
        make("cifar10", "test", write_folder(tmp_path / "images"))
    with pytest.raises(InputError, match="found split 'val'"):
        make("cifar10", "val", ten)


@pytest.mark.parametrize("inside", ["cifar-10-batches-py", "."])
def test_pickles_are_refused_and_never_read(tmp_path, inside):
    place = tmp_path / "python"
    (place / inside).mkdir(parents=True, exist_ok=True)
    trap = b"cbuiltins\nexec\n(S'raise SystemExit'\ntR."  # what a pickle can do
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (place / inside / name).write_bytes(trap)
    for found in (place, packed(place, tmp_path / "cifar-10-python.tar.gz")):
        with pytest.raises(
            InputError, match=r"pickles of the archive for python, .* binary version"
        ):
            make("cifar10", "train", found)


def test_a_broken_archive_is_refused(ten, tmp_path):
    whole = packed(ten, tmp_path / "whole.tar.gz").read_bytes()
    noise = b"no archive"
    for content in (noise, gzip.compress(noise), whole[: len(whole) // 2]):
        (tmp_path / "broken.tar.gz").write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read .*; wanted cifar-10-binary.*, whole"):
            make("cifar10", "train", tmp_path / "broken.tar.gz")


def test_more_images_than_memory_are_refused(ten, monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 1000)
    with pytest.raises(InputError, match=r"found 0.0 GiB .* wanted .* for 3 images: close other"):
        make("cifar10", "test", ten)


def test_available_memory_is_the_least_of_what_the_system_and_its_limits_say(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "GROUPS", tmp_path)
    assert _memory.available() is None
    _memory.require_room(1 << 60, "anything", "nothing")  # where nothing is known
    (tmp_path / "meminfo").write_text("MemTotal:  900 kB\nMemAvailable:   500 kB\n")
    assert _memory.available() == 500 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 1000\n")
    assert _memory.available() == 500 * 1024
    (tmp_path / "memory.max").write_text("10000\n")
    assert _memory.available() == 10000 - 3000 + 1000
    (tmp_path / "meminfo").write_text("MemTotal:  900 kB\n")
    with pytest.raises(
        InputError, match=re.escape("found 0.0 GiB of memory available; wanted 1.0")
    ):
        _memory.require_room(1 << 30, "images", "take fewer")


def test_the_label_says_that_files_are_needed():
    assert {key for key in DATASETS if DATASETS[key].needs_files} == {
        "cifar10",
        "cifar100",
        "folder",
    }
