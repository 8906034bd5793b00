"""How far has each part of a network walked?  Sum over optimiser steps of ||w_after - w_before||_2.

A scope is every module path that holds parameters: ``""`` is the whole network, ``layer1`` a
stage, ``fc`` one layer. The norm is that of the scope's parameters taken together.

Source: Cheng et al. 2020, arXiv:2003.03622, section 3.2 (weight distance, every step counted).

Axes: s scopes, p parameters.
"""

import torch
from torch import nn


class PathLength:
    """Lengths of all scopes, summed on the device; reading them is the only transfer."""

    def __init__(self, body: nn.Module) -> None:
        named = dict(body.named_parameters())
        self.scopes = tuple(
            path for path, module in body.named_modules() if any(True for _ in module.parameters())
        )
        self._parameters = [parameter.detach() for parameter in named.values()]
        self._before = [parameter.clone() for parameter in self._parameters]
        device = self._parameters[0].device
        members = [[_inside(name, scope) for name in named] for scope in self.scopes]
        self._members = torch.tensor(members, dtype=torch.float64, device=device)  # (s, p) 0 or 1
        self.lengths = torch.zeros(len(self.scopes), dtype=torch.float64, device=device)  # (s,)

    def restart(self) -> None:
        """Take the present weights as the place from which the next step is counted."""
        torch._foreach_copy_(self._before, self._parameters)

    @torch.no_grad()
    def walk(self) -> None:
        """Add the step from the weights of the last call to the present ones."""
        torch._foreach_sub_(self._before, self._parameters)  # the step backwards, as long
        squares = torch.stack(torch._foreach_norm(self._before)).double() ** 2  # (p,)
        self.lengths += (self._members @ squares).sqrt()
        self.restart()

    def by_scope(self) -> dict[str, float]:
        """Scope -> length so far."""
        return dict(zip(self.scopes, self.lengths.tolist(), strict=True))


def _inside(parameter: str, scope: str) -> float:
    return float(not scope or parameter.startswith(f"{scope}."))
