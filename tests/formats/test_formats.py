"""Other people's checkpoints are read; broken ones are refused, and no code in them is run."""

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kdprobe.errors import InputError
from kdprobe.formats.contract import FORMATS, read_weights
from kdprobe.formats.torch_file import NESTS, PREFIXES

TENSORS = {"conv.weight": torch.arange(4.0), "bn.num_batches_tracked": torch.tensor(3)}


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def same(found: Any) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[k], TENSORS[k]) for k in found)


def test_safetensors_with_metadata(tmp_path):
    save_file(TENSORS, tmp_path / "a.safetensors", {"epoch": "3"})
    found = read_weights(tmp_path / "a.safetensors")
    assert same(found.tensors)
    assert found.metadata == {"epoch": "3"}


@pytest.mark.parametrize("nest", ["", *NESTS])
@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_torch_files_of_the_usual_libraries(tmp_path, nest, prefix):
    content: Any = {prefix + key: value for key, value in TENSORS.items()}
    if nest:
        content = {"epoch": 3, "best_acc": 71.2, nest: content}
    torch.save(content, tmp_path / "a.pth")
    assert same(read_weights(tmp_path / "a.pth").tensors)


def test_the_students_weights_are_taken_from_a_distillers_file(tmp_path):
    both = {f"module.student.{k}": v for k, v in TENSORS.items()}
    both |= {f"module.teacher.{k}": v + 1 for k, v in TENSORS.items()}
    torch.save(both, tmp_path / "a.pt")
    assert same(read_weights(tmp_path / "a.pt").tensors)


def test_the_old_torch_format(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path / "a.pt").tensors)


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth", "bin"])
def test_a_missing_and_an_empty_file(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    with pytest.raises(InputError, match=r"cannot read checkpoint .*a\..* \(No such file"):
        read_weights(file)
    file.touch()
    with pytest.raises(InputError, match=r"is empty \(0 bytes\); copy it again or delete it"):
        read_weights(file)


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "old.pt"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file(tmp_path, suffix, share):
    file = tmp_path / f"a.{suffix}"
    big = {"w": torch.rand(100, 100)}
    if suffix == "safetensors":
        save_file(big, file)
    else:
        torch.save(big, file, _use_new_zipfile_serialization=suffix == "pt")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"is truncated or not a .*; copy it again or delete it"):
        read_weights(file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", ["pt", "old.pt"])
def test_a_damaged_torch_file_is_refused_whatever_its_bytes_lead_to(tmp_path, suffix):
    chance, file, refused = random.Random(0), tmp_path / f"a.{suffix}", set()
    torch.save(TENSORS, file, _use_new_zipfile_serialization=suffix == "pt")
    whole = file.read_bytes()
    for turn in range(400):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content if turn % 4 else content[: chance.randrange(1, len(content))])
        try:
            read_weights(file)
        except InputError as error:
            refused.add(type(error.__cause__))
    assert len(refused) > 2, "many kinds of errors were met"


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("content", [b"not a checkpoint at all", b"\x00" * 64, b"PK\x03\x04" * 9])
def test_something_else_under_a_checkpoints_name(tmp_path, suffix, content):
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is truncated or not a"):
        read_weights(file)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_folder_under_a_checkpoints_name(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").mkdir()
    with pytest.raises(InputError, match="is truncated or not a"):
        read_weights(tmp_path / f"a.{suffix}")


def test_an_unknown_ending(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"unknown ending; wanted one of \.safetensors, \.pt, "):
        read_weights(tmp_path / "a.ckpt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("way", ["pickle", "torch", "old torch", "nested"])
def test_code_is_refused_and_not_run(tmp_path, way):
    marker, file = tmp_path / "ran", tmp_path / "a.pt"
    trap: Any = Trap(marker)
    if way == "pickle":
        file.write_bytes(pickle.dumps({"model": trap}))
    elif way == "nested":
        torch.save({"model": TENSORS, "optimizer": [trap]}, file)
    else:
        torch.save(trap, file, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(InputError, match=r"refused\. Wanted a file of tensors alone: .*save_file"):
        read_weights(file)
    assert not marker.exists()
    pickle.loads(pickle.dumps(trap))
    assert marker.exists(), "the trap works"


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds pickled code or objects"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], {"model": {}}, {}])
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"holds no state dict; wanted .* save model\.state_dict"):
        read_weights(tmp_path / "a.pt")


def test_no_two_formats_claim_one_ending():
    endings = [suffix for entry in FORMATS.values() for suffix in entry.suffixes]
    assert len(endings) == len(set(endings))


def test_an_interrupt_that_comes_out_as_a_broken_file_is_an_interrupt(tmp_path, monkeypatch):
    from kdprobe.formats import safetensors_file

    file, real, tries = tmp_path / "a.safetensors", safetensors_file.safe_open, []
    save_file({"a": torch.zeros(1)}, file)

    def once(*args, **kwargs):
        tries.append(args)
        if len(tries) == 1:
            raise ValueError("could not determine the shape")
        return real(*args, **kwargs)

    monkeypatch.setattr(safetensors_file, "safe_open", once)
    with pytest.raises(KeyboardInterrupt):
        safetensors_file.read_safetensors(file)
