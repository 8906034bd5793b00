"""A folder becomes a catalogue: read once, in order, with hints, and loud when a file is broken."""

from collections.abc import Callable
from pathlib import Path

import pytest

import kdprobe.registry
from kdprobe.errors import UnknownName
from kdprobe.registry import Catalogue, did_you_mean

ROOM = """
from kdprobe.registry import Catalogue
THINGS = Catalogue("thing", "{package}")
"""
Room = Callable[..., Catalogue[int]]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Room:
    """Writes a package of its own for each test; its files join `THINGS` in its contract."""
    package = f"room_{abs(hash(request.node.name))}"

    def build(**files: str) -> Catalogue[int]:
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "contract.py").write_text(ROOM.format(package=package))
        for name, text in files.items():
            start = f"from {package}.contract import THINGS\n"
            (folder / f"{name}.py").write_text(start + text)
        monkeypatch.syspath_prepend(str(tmp_path))
        module = __import__(f"{package}.contract", fromlist=["THINGS"])
        things: Catalogue[int] = module.THINGS
        return things

    return build


def test_the_files_of_a_folder_are_its_entries(room: Room) -> None:
    things = room(two="THINGS.add('two', 2)", one="THINGS.add('one', 1)")
    assert list(things) == ["one", "two"]
    assert things.values() == [1, 2]
    assert things["two"] == 2
    assert "one" in things
    assert "three" not in things


def test_nothing_is_imported_before_the_first_look(room: Room) -> None:
    things = room(one="THINGS.add('one', 1)")
    assert not things._entries
    assert "one" in things
    assert things._entries == {"one": 1}


def test_files_with_an_underscore_are_no_entries(room: Room) -> None:
    assert list(room(_part="THINGS.add('part', 0)", one="THINGS.add('one', 1)")) == ["one"]


def test_an_unknown_name_is_answered_with_the_nearest(room: Room) -> None:
    things = room(one="THINGS.add('attention', 1)")
    with pytest.raises(UnknownName, match=r"'atention'; did you mean 'attention'\? Known: att"):
        things["atention"]
    with pytest.raises(UnknownName, match=r"no thing is called 'zzz'\. Known: attention"):
        things["zzz"]


def test_a_name_is_given_once() -> None:
    things: Catalogue[int] = Catalogue("thing", "kdprobe")
    assert things.add("one", 1) == 1
    with pytest.raises(ValueError, match="two things are called 'one'; rename one of them"):
        things.add("one", 2)


def test_a_broken_file_fails_every_time(room: Room) -> None:
    things = room(broken="raise RuntimeError('broken')", late="THINGS.add('late', 1)")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            list(things)


def test_third_parties_join_through_entry_points(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = room()

    class Point:
        def load(self) -> None:
            things.add("theirs", 3)

    def points(*, group: str) -> list[Point]:
        return [Point()] if group == things.package else []

    monkeypatch.setattr(kdprobe.registry, "entry_points", points)
    assert list(things) == ["theirs"]


def test_a_hint_is_given_only_when_a_name_is_near() -> None:
    assert did_you_mean("restnet20", ["resnet20", "vgg8"]) == "; did you mean 'resnet20'?"
    assert did_you_mean("zzz", ["resnet20", "vgg8"]) == ""
