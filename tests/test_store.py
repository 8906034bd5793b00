"""What was seen is kept whole under its content, or not at all."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from kdprobe.errors import OutputError
from kdprobe.store import Store, digest_of

KEY, OTHER = digest_of("a"), digest_of("b")
ARRAYS = {"map": np.arange(12.0).reshape(3, 4).T, "count": np.array(3), "on": np.array([True])}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def entry(store: Store) -> Path:
    return next(store.folder.rglob("*.safetensors"))


def test_what_is_put_is_got_in_value_shape_and_kind(store):
    store.put(KEY, ARRAYS)
    found = store.get(KEY)
    assert found is not None
    for name, wanted in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(found[name], wanted)
    assert KEY in store
    assert OTHER not in store
    assert store.get(OTHER) is None
    assert 3 not in store


def test_the_same_content_is_the_same_bytes(store, tmp_path):
    store.put(KEY, ARRAYS)
    again = Store(tmp_path / "again")
    again.put(KEY, dict(reversed(ARRAYS.items())))
    assert entry(store).read_bytes() == entry(again).read_bytes()


@pytest.mark.parametrize("left", [0, 5, 60])
def test_a_damaged_entry_is_taken_away(store, left):
    store.put(KEY, ARRAYS)
    entry(store).write_bytes(entry(store).read_bytes()[:left])
    assert store.get(KEY) is None
    assert KEY not in store
    store.put(KEY, ARRAYS)
    assert store.get(KEY) is not None


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "store").write_text("a file is in the way")
    with pytest.raises(OutputError, match=r"cannot write .*; free some space, or choose another"):
        Store(tmp_path / "store").put(KEY, ARRAYS)


def put_often(folder: Path) -> None:
    for _ in range(50):
        Store(folder).put(KEY, {"map": np.arange(1000)})


def test_many_processes_may_write_one_entry(store):
    workers = [multiprocessing.Process(target=put_often, args=(store.folder,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        found = store.get(KEY) if KEY in store else None
        assert found is None or found["map"].sum() == 499500
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert [file.name for file in store.folder.rglob("*") if file.is_file()] == [entry(store).name]


def test_a_digest_is_of_the_content():
    assert digest_of({"a": 1, "b": [2, "ü"]}) == digest_of({"b": [2, "ü"], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert len(KEY) == 64
