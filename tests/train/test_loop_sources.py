"""The record of a run seals the very file that taught it, wherever that lies."""

import hashlib

import pytest
from toystudy import arm, record, trained

KD = "cross_entropy + kd(T=4)"
SOURCES = {
    "a random teacher": ({"epoch": 0}, "teacher/epoch-0000.safetensors"),
    "an early one": ({"epoch": 1}, "teacher/epoch-0001.safetensors"),
    "another arm": ({"run": "base"}, "base-seed0/epoch-0002.safetensors"),
    "its best": ({"run": "base", "epoch": "best"}, "base-seed0/best/"),
}


@pytest.fixture
def folder(tmp_path):
    """One study in which an arm learns from each source."""
    arms = {f"from{at}": arm(KD, teacher=who) for at, (who, _) in enumerate(SOURCES.values())}
    base = arm("cross_entropy", role="baseline")
    return trained(tmp_path, {**arms, "base": base}, "data.validation=0.4")


def test_each_source_is_sealed_by_the_digest_of_its_file(folder):
    seals = set()
    for at, (_, path) in enumerate(SOURCES.values()):
        told = record(folder, f"from{at}-seed0")["teacher"]
        assert told["file"].startswith(path)
        found = hashlib.sha256((folder / told["file"]).read_bytes()).hexdigest()
        assert told["sha256"] == found
        assert told["run"] == told["file"].split("/")[0]
        assert 0 <= told["test_accuracy"] <= 1
        seals.add(found)
    assert len(seals) >= 3
