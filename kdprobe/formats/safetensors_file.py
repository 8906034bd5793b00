"""safetensors: the format that the bundled trainer writes. Cannot hold code."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from kdprobe.errors import InputError
from kdprobe.formats.contract import Weights, checkpoint_format

BROKEN = (SafetensorError, OSError, ValueError)


@checkpoint_format("safetensors", suffixes=(".safetensors",))
def read_safetensors(path: Path) -> Weights:
    """Read every tensor of `path`, and its metadata. Raises InputError for a broken file."""
    try:
        return _read(path)
    except BROKEN as error:
        if _is_whole(path):  # Ctrl-C while a tensor was being made comes out as another error
            raise KeyboardInterrupt from error
        raise InputError(
            f"checkpoint {path} is truncated or not a safetensors file ({error}); "
            "copy it again or delete it"
        ) from error


def _read(path: Path) -> Weights:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        return Weights(tensors, dict(file.metadata() or {}))


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except BROKEN:
        return False
    return True
