"""Where a network is looked into: a tap is a place whose output is read, and nothing is disturbed.

A tap's name is one of the network's own (``stage3``, ``pooled``, ``logits``) or any module path.
Outputs are copied inside the hook, so that a later in-place operation cannot change what was seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kdprobe.batches import called_on
from kdprobe.errors import InputError, UnknownName
from kdprobe.registry import did_you_mean


@dataclass(frozen=True)
class Tap:
    """The output of the module at `path` ("" is the whole network)."""

    path: str
    kind: Literal["post", "pre", "raw"] = (
        "post"  # after its activation, before it, or no activation
    )
    weights: str = ""  # module path of the parameters that make this output; "" = all of them


def named_taps(model: nn.Module) -> dict[str, Tap]:
    """The network's own taps, from input to output; every network has its output, the logits."""
    return dict(getattr(model, "taps", {})) or {"logits": Tap("", "raw")}


def find_taps(model: nn.Module, names: Sequence[str]) -> dict[str, Tap]:
    """The taps called `names`, in that order.

    Raises:
        UnknownName: a name is neither one of the network's own taps nor a module path.
    """
    own, modules = named_taps(model), dict(model.named_modules())
    found = {}
    for name in names:
        if name in own:
            found[name] = own[name]
        elif name in modules:
            found[name] = Tap(name, "raw", name if _has_weights(modules[name]) else "")
        else:
            hint = did_you_mean(name, [*own, *(path for path in modules if path)]) or ";"
            raise UnknownName(
                f"found no layer {name!r}{hint} wanted {', '.join([*own, 'a module path'])}; "
                "see 'kdprobe inspect'"
            )
    return found


class Outputs(dict[str, Tensor]):
    """Outputs of one forward pass by tap; a layer that the pass did not call is an InputError."""

    def __missing__(self, name: str) -> Tensor:
        raise InputError(
            f"layer {name!r} is not called on these images; choose one that is, see "
            "'kdprobe inspect'"
        )

    def record(self, name: str, output: object) -> None:
        """Keep a copy of what the tap called `name` put out."""
        if not isinstance(output, Tensor):
            raise InputError(
                f"layer {name!r} returns {type(output).__name__}, wanted one tensor; "
                "choose a module inside it"
            )
        if name in self:
            raise InputError(
                f"layer {name!r} is called more than once in a forward pass, so its output is "
                "ambiguous; choose the module around it"
            )
        self[name] = output.clone()


@contextmanager
def watch(model: nn.Module, taps: Mapping[str, Tap]) -> Iterator[Outputs]:
    """Lend a dictionary that every forward pass of `model` fills anew with the taps' outputs.

    The tensors stay in the autograd graph; detach them where no gradient is wanted.

    Raises:
        InputError: a layer puts out no tensor, is called twice in a pass, or (when its output is
            asked for) not at all.
    """
    seen = Outputs()
    modules = dict(model.named_modules())
    handles = [model.register_forward_pre_hook(lambda module, inputs: seen.clear())]
    try:
        for name, tap in taps.items():
            hook = modules[tap.path].register_forward_hook(
                lambda module, inputs, output, name=name: seen.record(name, output)
            )
            handles.append(hook)
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def flat(features: Tensor) -> Tensor:
    """(n, ...) -> (n, d): one row of features an image."""
    return features.flatten(1) if features.dim() > 1 else features.unsqueeze(1)


def shapes(model: nn.Module, taps: Mapping[str, Tap], images: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of every tap's output for one image, found by a forward pass of the first."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), watch(model, taps) as seen, called_on(images[:1]):
            model(images[:1])
        return {name: tuple(seen[name].shape[1:]) for name in taps}
    finally:
        model.train(was_training)
