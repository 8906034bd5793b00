"""torch.save files: bare state dicts, RepDistiller's ``{'model': ...}`` and mdistiller's prefixes.

Read with ``weights_only=True``: a pickle that holds anything but tensors is refused, never run.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.formats.contract import Weights, checkpoint_format

NESTS = ("model", "state_dict", "model_state_dict", "net")
PREFIXES = ("module.student.", "module.", "student.", "_orig_mod.")


@checkpoint_format("torch", suffixes=(".pt", ".pth"))
def read_torch(path: Path) -> Weights:
    """Read the state dict in `path`, wherever the usual libraries put it.

    Raises:
        InputError: the file is truncated, holds code, or holds no state dict.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" not in str(error) or not _begins_as_torch_files_do(path):
            raise _broken(path, error) from error
        raise InputError(
            f"checkpoint {path} holds pickled code or objects, which could run anything when "
            "opened; refused. Wanted a file of tensors alone: in the program that made it, save "
            "model.state_dict() by safetensors.torch.save_file, and pass that file"
        ) from error
    except Exception as error:  # a damaged pickle fails in whatever way its next byte leads to
        raise _broken(path, error) from error
    return Weights(_without_prefix(_state_dict(path, content)))


def _begins_as_torch_files_do(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith((b"PK\x03\x04", b"\x80"))  # a zip, or a pickle


def _broken(path: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or ["unexpected end"])[0]
    return InputError(
        f"checkpoint {path} is truncated or not a torch file ({reason}); copy it again or delete it"
    )


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        for nest in NESTS:
            if isinstance(content.get(nest), Mapping):
                content = content[nest]
                break
    if isinstance(content, Mapping):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    raise InputError(
        f"checkpoint {path} holds no state dict; wanted names with tensors, bare or under one of "
        f"{', '.join(NESTS)}; save model.state_dict()"
    )


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if inside:
            return inside
    return tensors
