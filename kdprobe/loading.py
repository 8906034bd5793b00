"""From a record to the thing itself: a checkpoint becomes a network, a data entry its images.

Code of the user's own is run only when its module was allowed by name.
"""

import hashlib
import sys
import traceback
from collections.abc import Callable, Collection
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.datasets.contract import DATASETS, Images
from kdprobe.errors import InputError, KdprobeError
from kdprobe.formats.contract import read_weights
from kdprobe.manifest import DataEntry, NetworkEntry
from kdprobe.models.contract import Network, make_body
from kdprobe.registry import did_you_mean
from kdprobe.study import Checkpoint, Study


class BrokenWeights(InputError):
    """A checkpoint holds numbers that are not finite; the rest of the study can be analysed."""


def build(entry: NetworkEntry, allowed: Collection[str] = ()) -> Network:
    """The network of `entry` with fresh weights; torch's random state is kept.

    Raises:
        InputError: the factory's module is not in `allowed`, or does not give an nn.Module.
        UnknownName: no bundled network has such a name.
    """
    with torch.random.fork_rng(devices=[]):
        body = _own_body(entry, allowed) if entry.factory else _bundled_body(entry)
    return Network(body, entry.mean, entry.std)


def _bundled_body(entry: NetworkEntry) -> nn.Module:
    return make_body(
        entry.name,
        num_classes=entry.num_classes,
        transforms=entry.transforms,
        **entry.arguments,
    )


def parameter_changes(entry: NetworkEntry) -> dict[str, int]:
    """What each transform of `entry` adds to its parameters, in order: ``{"strip_skips": -2752}``.

    Of a network without transforms nothing. Raises as `build` does.
    """
    if not entry.transforms:
        return {}
    counts = []
    for many in range(len(entry.transforms) + 1):
        body = build(entry.model_copy(update={"transforms": entry.transforms[:many]})).body
        counts.append(sum(p.numel() for p in body.parameters()))
    changes = (after - before for before, after in pairwise(counts))
    return dict(zip(entry.transforms, changes, strict=True))


def _own_body(entry: NetworkEntry, allowed: Collection[str]) -> nn.Module:
    make = own_code(entry.factory, allowed)
    try:
        body = make(num_classes=entry.num_classes, **entry.arguments)
    except TypeError as error:
        raise InputError(
            f"factory {entry.factory!r} does not take these settings: {error}; wanted "
            "function(num_classes=..., and the network's arguments)"
        ) from error
    except Exception as error:  # whatever the user's own code may raise
        raise _failed(entry.factory, error) from error
    if not isinstance(body, nn.Module):
        raise InputError(
            f"factory {entry.factory!r} gave {type(body).__name__}; wanted a torch.nn.Module"
        )
    return body


def load_network(
    checkpoint: Checkpoint, device: torch.device | str = "cpu", allowed: Collection[str] = ()
) -> Network:
    """The network of `checkpoint`: float32, evaluation mode, no gradients for its weights.

    Raises:
        InputError: the file is broken, or its tensors are not those of the network.
        BrokenWeights: a tensor holds NaN or infinity.
    """
    network = build(checkpoint.network, allowed)
    tensors = read_weights(checkpoint.path).tensors
    _must_fit(checkpoint, network.body.state_dict(), tensors)
    bad = next((k for k, v in tensors.items() if not bool(torch.isfinite(v).all())), None)
    if bad is not None:
        raise BrokenWeights(f"{checkpoint.path}: tensor {bad!r} holds NaN or infinite numbers")
    network.body.load_state_dict(dict(tensors))
    return network.eval().requires_grad_(False).to(device)


def _must_fit(checkpoint: Checkpoint, wanted: dict[str, Tensor], found: Any) -> None:
    where = f"checkpoint {checkpoint.path} does not fit network {checkpoint.network.label!r}"
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        near = did_you_mean(missing[0], found) or "."
        raise InputError(
            f"{where}: it lacks {len(missing)} tensors, the first is {missing[0]!r}{near} "
            "Name the network that was trained in the manifest"
        )
    extra = sorted(found.keys() - wanted.keys())
    if extra:
        raise InputError(
            f"{where}: it has {len(extra)} tensors more, the first is {extra[0]!r}. "
            "Name the network that was trained in the manifest"
        )
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise InputError(
                f"{where}: {name!r} has shape {tuple(found[name].shape)}, wanted "
                f"{tuple(tensor.shape)}; correct num_classes ({checkpoint.network.num_classes} "
                "in the manifest) or the network's arguments"
            )


def load_images(data: DataEntry, split: str = "test", allowed: Collection[str] = ()) -> Images:
    """The images of `data`'s `split`, "train" or "test".

    Raises:
        InputError: the factory's module is not in `allowed`, or does not give `Images`.
        UnknownName: no bundled data set has such a name.
    """
    make = own_code(data.factory, allowed) if data.factory else DATASETS[data.name].make
    try:
        images = make(split, **data.arguments)
    except TypeError as error:
        raise InputError(
            f"data set {data.name or data.factory!r} does not take these settings: {error}"
        ) from error
    except KdprobeError:
        raise
    except Exception as error:
        if data.factory:  # whatever the user's own code may raise
            raise _failed(data.factory, error) from error
        raise
    if not isinstance(images, Images):
        raise InputError(
            f"data factory {data.factory!r} gave {type(images).__name__}; "
            "wanted kdprobe.datasets.contract.Images"
        )
    return images


def _failed(factory: str, error: Exception) -> InputError:
    """The user's own code raised: where, and what."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    told = f"{type(error).__name__}: {error}{where}"
    return InputError(f"factory {factory!r} failed: {told}; wanted it to return; mend that code")


def own_code(path: str, allowed: Collection[str]) -> Callable[..., Any]:
    """The function at ``module:function``, the user's own code.

    Raises:
        InputError: its module is not in `allowed`, or there is no such function.
    """
    module, _, name = path.partition(":")
    if module not in allowed:
        raise InputError(
            f"the study names code to run: {path!r}; refused. If you trust it, run again with "
            f"--allow-code {module}"
        )
    if not name:
        raise InputError(f"found factory {path!r}; wanted 'module:function'")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last: a file here must not stand in for a library
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"cannot import {path!r} ({error}); wanted 'module:function', importable from here"
        ) from error
    return found


def code_digest(study: Study, allowed: Collection[str]) -> dict[str, str]:
    """SHA-256 of the code that builds the networks of `study`, where it is the user's own.

    Of the factory's file, and of every loaded module that lies in its folder or below.
    """
    factories = {run.entry.network.factory for run in study.runs} - {""}
    found = {}
    for factory in sorted(factories):
        own_code(factory, allowed)
        home = Path(sys.modules[factory.partition(":")[0]].__file__ or "").parent
        files = {Path(file) for module in list(sys.modules.values()) if (file := _file_of(module))}
        near = sorted(path for path in files if path.is_relative_to(home) and _is_own(path, home))
        for path in near:
            found[str(path.relative_to(home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _file_of(module: object) -> str:
    return str(getattr(module, "__file__", None) or "")


def _is_own(file: Path, home: Path) -> bool:
    """Not of an environment that happens to lie in the user's folder."""
    return file.is_file() and "site-packages" not in file.relative_to(home).parts
