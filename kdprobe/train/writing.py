"""A file is either the old one or the whole new one: write beside it, then rename."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from kdprobe.errors import OutputError


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn a failure of the file system into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); "
            "free some space, or choose another folder with --out"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path`. Raises OutputError when it cannot be written."""
    beside = path.with_name(f".{path.name}.tmp")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file. Raises OutputError when it cannot be written."""
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace a safetensors file. Raises OutputError when it cannot be written."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, _ordered(save(own, dict(metadata))))


def _ordered(content: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: by itself their order is random."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Add one line of JSON and flush it. Raises OutputError when it cannot be written."""
    with told(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(content, allow_nan=False) + "\n")
