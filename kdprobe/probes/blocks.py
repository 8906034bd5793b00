"""What are the blocks of a network?  Its repeated modules, found by running it, not by their names.

A module can be a block if it has weights, is called once in a forward pass, takes one tensor and
gives one, each with the images along its first axis, and does not put out the logits. Of those,
the blocks are the first of these that there are:
    1. modules with layers inside, of a class that occurs more than once (`BasicBlock`, an encoder
       layer); of nested ones the outermost, but no stage that just passes on what its last one
       gives;
    2. plain ``nn.Sequential`` groups of single layers, if there is more than one;
    3. single layers with a weight matrix.
Or those that the user names.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models.contract import Network

FOUND = ("auto",)  # instead of names


@dataclass
class Call:
    """How a module was called in a forward pass of several images."""

    module: nn.Module
    inputs: list[Tensor] = field(default_factory=list)
    output: Any = None
    times: int = 0
    fault: str = ""  # why the module can be no block


def find_blocks(
    network: Network, image: Tensor, names: Sequence[str] = FOUND
) -> dict[str, nn.Module]:
    """The blocks of `network` in the order they are called, perhaps none.

    `image` (1, ...) is one that it can see. Raises InputError where one of `names` can be no block.
    """
    calls = _calls(network, image)
    if tuple(names) != FOUND:
        for name in names:
            _must_be_a_block(name, network, calls)
        return {path: call.module for path, call in calls.items() if path in names}
    able = {path: call for path, call in calls.items() if not call.fault}
    found = _repeated(able) or _groups(able) or _layers(able)
    return {path: able[path].module for path in found}


def the_tensor(inputs: Sequence[object], named: Mapping[str, object]) -> Tensor:
    """The one tensor among the arguments of a call."""
    return next(x for x in (*inputs, *named.values()) if isinstance(x, Tensor))


def encoded(names: Sequence[str]) -> Tensor:
    """Names as UTF-8, one a line: what a probe shows is tensors."""
    return torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)


def _calls(network: Network, image: Tensor) -> dict[str, Call]:
    """How each module with weights was called, in that order, and why it can be no block."""
    calls: dict[str, Call] = {}

    def watch(path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(module: nn.Module, inputs: Any, named: Any) -> None:
            call = calls.setdefault(path, Call(module))
            call.times += 1
            call.inputs = [x for x in (*inputs, *named.values()) if isinstance(x, Tensor)]

        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[path].output = output.clone() if isinstance(output, Tensor) else output

        return before, after

    two = torch.cat([image, image])
    with torch.no_grad(), ExitStack() as stack:
        for path, module in network.body.named_modules():
            if path and any(True for _ in module.parameters()):
                before, after = watch(path)
                for handle in (
                    module.register_forward_pre_hook(before, with_kwargs=True),
                    module.register_forward_hook(after),
                ):
                    stack.callback(handle.remove)
        logits = network(two)
    for call in calls.values():
        call.fault = _fault(call, logits)
    return calls


def _fault(call: Call, logits: Tensor) -> str:
    """Why a module that was called so, on two images, can be no block."""
    if call.times > 1:
        return f"is called {call.times} times in a forward pass"
    if len(call.inputs) != 1:
        return f"takes {len(call.inputs)} tensors"
    if not isinstance(call.output, Tensor):
        return f"returns {type(call.output).__name__}"
    if not (len(call.output.shape) and len(call.inputs[0].shape)):
        return "works on a single number"
    if not len(call.inputs[0]) == len(call.output) == len(logits):
        return "does not keep images along the first axis"
    if not (call.output.is_floating_point() and call.inputs[0].is_floating_point()):
        return "works on whole numbers"
    if torch.equal(call.output, logits):
        return "puts out the logits"
    return ""


def _must_be_a_block(name: str, network: Network, calls: Mapping[str, Call]) -> None:
    """Raise InputError when `name` can be no block."""
    if name not in dict(network.body.named_modules()):
        fault = "is no module of this network"
    else:
        fault = calls[name].fault if name in calls else "is not called, or has no weights"
    if fault:
        raise InputError(
            f"found that block {name!r} {fault}; wanted a module with weights that is called once, "
            "takes one tensor and gives one: set reuse.blocks to others, see 'kdprobe inspect'"
        )


def _repeated(able: Mapping[str, Call]) -> list[str]:
    own = {
        path: call
        for path, call in able.items()
        if type(call.module) is not nn.Sequential and _holds_layers(call.module)
    }
    counts = Counter(type(call.module) for call in own.values())
    several = [path for path, call in own.items() if counts[type(call.module)] > 1]
    working = [p for p in several if not any(_passes_on(own, p, inner) for inner in several)]
    return [p for p in working if not any(p.startswith(f"{outer}.") for outer in working)]


def _passes_on(calls: Mapping[str, Call], outer: str, inner: str) -> bool:
    """Whether a module gives just what one inside it gave."""
    inside = inner.startswith(f"{outer}.")
    return inside and torch.equal(calls[outer].output, calls[inner].output)


def _groups(able: Mapping[str, Call]) -> list[str]:
    found = [
        path
        for path, call in able.items()
        if type(call.module) is nn.Sequential
        and not any(_holds_layers(child) for child in call.module.children())
    ]
    return found if len(found) > 1 else []


def _layers(able: Mapping[str, Call]) -> list[str]:
    return [
        path
        for path, call in able.items()
        if not _holds_layers(call.module)
        and any(weight.dim() > 1 for weight in call.module.parameters())
    ]


def _holds_layers(module: nn.Module) -> bool:
    return any(True for child in module.children() for _ in child.parameters())
