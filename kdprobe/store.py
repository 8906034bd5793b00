"""Results by content: what was once seen is never looked at again.

An entry's key is the SHA-256 of all that it depends on. One safetensors file an entry, written
under a temporary name and renamed, so that a killed program leaves whole entries or none.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from kdprobe.files import write_whole

Arrays = Mapping[str, NDArray[Any]]


def digest_of(description: object) -> str:
    """SHA-256 of a JSON-like description, whatever the order of its keys."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """A folder of entries. Many processes may read and write it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._file(key).is_file()

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep `arrays` under `key`. Raises OutputError when the disk refuses."""
        whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        write_whole(self._file(key), save(whole), shared=True)
        with contextlib.suppress(OSError):
            self._refusal(key).unlink(missing_ok=True)

    def _refusal(self, key: str) -> Path:
        return self._file(key).with_suffix(".refused")

    def refuse(self, key: str, reason: str) -> None:
        """Keep why there is no entry under `key`. The next analysis tries again."""
        write_whole(self._refusal(key), reason.encode(), shared=True)

    def refused(self, key: str) -> str:
        """Why there is no entry under `key`; empty where nobody said."""
        try:
            return self._refusal(key).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    def get(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The arrays under `key`, or None where there is no readable entry.

        An entry that cannot be read (a damaged disk) is deleted, and so is looked at again.
        """
        file = self._file(key)
        try:
            return load_file(file)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError):
            with contextlib.suppress(OSError):
                file.unlink()
            return None
