"""The networks of a run and its losses as one module, called once a step.

Most runs have one network. Those that are trained together see each other's logits; where they
share their lower layers (Lan, Zhu and Gong 2018, arXiv:1806.04606), the layers of the first belong
to all, and each of the others is a whole network by itself.

Axes: n images, c classes, m networks, t terms.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.taps import Tap, find_taps, watch
from kdprobe.train.layout import layout_of
from kdprobe.train.losses.contract import Batch, Outputs
from kdprobe.train.objective import Objective
from kdprobe.train.plan import layers_of
from kdprobe.train.settings import Optimizer

KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


log = logging.getLogger("kdprobe")


class Crowd(nn.Module):
    """m networks and the losses that train them."""

    def __init__(
        self, networks: Sequence[Network], objective: Objective, share: str, how: Optimizer
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self._own = tuple(networks)  # the same ones, for whom they are more than modules
        self.objective = objective
        self._share, self._how = share, how
        terms = [term for stage in objective.stages for term in stage.terms]
        self._taps = [_tapped(network, terms, "layers") for network in networks]
        if share:
            for network in networks[1:]:
                _share_lower(networks[0].body, network.body, share)
        # A compiled network lays its images out itself and lets nobody look inside.
        plain = not any(self._taps) and not share
        fit = [how.compile and plain and _is_sound(network) for network in networks]
        if how.compile and not all(fit):
            log.warning(
                "optimizer.compile is left out for a network: losses look into its layers (%s), "
                "it shares some, or compiling it would be unsound",
                ", ".join(term.name for term in terms),
            )
        self._calls: list[Callable[[Tensor], Tensor]] = [
            torch.compile(network) if does else network
            for network, does in zip(networks, fit, strict=True)
        ]

    def forward(
        self,
        stage: int,
        weights: Sequence[float],
        batch: Batch,
        teacher: Outputs | None,
        target: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(m, t) values of the terms, not weighted, and (m, n, c) logits."""
        ours = self.look(batch)
        # Without a teacher no term looks at it: faults.py has made sure.
        values = [self.objective(stage, weights, own, teacher or own, target) for own in ours]
        return torch.stack(values), torch.stack([own.logits for own in ours])

    def look(self, batch: Batch) -> list[Outputs]:
        """What each network puts out, in the autograd graph."""
        with autocast(self._how, batch.pixels.device):
            seen = self._shared(batch.pixels) if self._share else self._apart(batch.pixels)
        together = torch.stack([own.logits for own in seen]) if len(seen) > 1 else None
        return [
            replace(
                own,
                batch=batch,
                look=self._looker(place, batch.pixels.device),
                together=together,
                place=place,
            )
            for place, own in enumerate(seen)
        ]

    def _apart(self, pixels: Tensor) -> list[Outputs]:
        networks = zip(self._own, self._calls, self._taps, strict=True)
        return [look(network, taps, pixels, call) for network, call, taps in networks]

    def _shared(self, pixels: Tensor) -> list[Outputs]:
        first = self._own[0]
        body: Any = first.body
        inputs = first.normalised(pixels.contiguous())
        with watch(body, self._taps[0]) as seen:
            inside = body.lower(inputs)
        lower = dict(seen)
        found = []
        for network, taps in zip(self._own, self._taps, strict=True):
            body = network.body
            with watch(body, taps) as seen:
                logits = body.upper(inside)
            found.append(Outputs(logits, {**lower, **seen}))
        return found

    def _looker(self, place: int, device: torch.device) -> Callable[[Tensor], Tensor]:
        def again(pixels: Tensor) -> Tensor:
            with autocast(self._how, device):
                logits: Tensor = self._own[place](pixels)
            return logits

        return again


def autocast(how: Optimizer, device: torch.device) -> AbstractContextManager[object]:
    """Where the recipe asks for it, convolutions and products in half precision."""
    if how.autocast == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=KINDS[how.autocast])


def look(
    network: Network,
    taps: Mapping[str, Tap],
    pixels: Tensor,
    call: Callable[[Tensor], Tensor] | None = None,
) -> Outputs:
    """(n, 3, h, w) pixels in [0, 1] -> logits and tapped layers, in the autograd graph.

    The pixels come in torch's own layout whatever the network's is: three channels are laid out
    faster by the first convolution than they are normalised in channels last (measured).
    """
    run, inputs = network if call is None else call, pixels.contiguous()
    if not taps:
        return Outputs(run(inputs))
    with watch(network.body, taps) as seen:
        logits = run(inputs)
    return Outputs(logits, dict(seen))


def _is_sound(network: Network) -> bool:
    return layout_of(network) is torch.channels_last


def _tapped(network: Network, terms: Sequence[Any], side: str) -> dict[str, Tap]:
    layers = {layer: None for term in terms for layer in layers_of(term, side)}
    return find_taps(network.body, [layer for layer in layers if layer != "logits"])


def teacher_taps(network: Network, terms: Sequence[Any]) -> dict[str, Tap]:
    """The layers of a teacher that `terms` read; the logits need no tap.

    Raises:
        UnknownName: the teacher has no such layer.
    """
    return _tapped(network, terms, "teacher_layers")


def _share_lower(first: nn.Module, other: nn.Module, share: str) -> None:
    """Give `other` the lower layers of `first`. Raises InputError where it cannot be parted."""
    upper: tuple[str, ...] = getattr(first, "upper_parts", ())
    if share != "stage2" or not upper:
        raise InputError(
            f'found share={share!r}; wanted "stage2", of a bundled network, which can be parted '
            "there"
        )
    _share(first, other, upper, "")


def _share(ours: nn.Module, theirs: nn.Module, upper: Sequence[str], above: str) -> None:
    """What is no part of `upper`, nor around one, becomes one for both."""
    for name, weight in ours.named_parameters(recurse=False):
        setattr(theirs, name, weight)
    for name, part in ours.named_children():
        path = f"{above}{name}"
        if any(other.startswith(f"{path}.") for other in upper):
            _share(part, getattr(theirs, name), upper, f"{path}.")
        elif path not in upper:
            setattr(theirs, name, part)
