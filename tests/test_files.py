"""A file reaches the disk whole or not at all, and the old one stays until then."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdprobe.errors import OutputError
from kdprobe.files import told, write_whole

SMALL_DISK = """
import resource, sys
from pathlib import Path
from kdprobe.errors import OutputError
from kdprobe.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), b"x" * 5000)
except OutputError as error:
    print(error)
"""


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "deep" / "results.json"


def test_it_makes_the_folder_and_leaves_nothing_beside(file):
    assert write_whole(file, b"one") == file
    write_whole(file, b"two")
    write_whole(file, b"three", shared=True)
    assert file.read_bytes() == b"three"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_when_a_step_fails_the_old_file_stays(file, monkeypatch, step, shared):
    write_whole(file, b"old")
    real = Path.write_bytes

    def fail(self, what):
        if step == "write_bytes":
            real(self, what[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, step, fail)
    with pytest.raises(OutputError, match=r"results\.json \(No space left on device\); free some"):
        write_whole(file, b"new, and longer", shared=shared)
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_an_interruption_leaves_nothing_half_written(file, monkeypatch):
    def interrupt(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, b"new")
    assert list(file.parent.iterdir()) == []


def test_a_disk_that_is_really_full(tmp_path):
    pytest.importorskip("resource", reason="limits of file sizes are a matter of Unix")
    file = tmp_path / "big"
    file.write_bytes(b"old")
    run = [sys.executable, "-c", SMALL_DISK, str(file)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
    assert f"cannot write {file} (File too large)" in done.stdout
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"):
        with pytest.raises(OutputError, match=f"cannot write {path}"):
            write_whole(path, b"x")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}"):
        write_whole(tmp_path, b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_only_the_file_systems_errors_are_told(file):
    with pytest.raises(ZeroDivisionError), told(file):
        raise ZeroDivisionError
    with pytest.raises(OutputError, match=r"cannot write .* \(odd\)"), told(file):
        raise OSError("odd")
