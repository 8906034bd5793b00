"""What does the trainer write?  JSON, lines of JSON and tensors, each file whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from kdprobe.files import told, write_whole


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file. Raises OutputError when it cannot be written."""
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace a safetensors file. Raises OutputError when it cannot be written."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_whole(path, _ordered(save(own, dict(metadata))))


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
