"""Has the loss one Hessian at all?  Refuses networks that answer by chance, or by the company.

Dropout and BatchNorm in training mode are told by name. What a network does in its own code is told
by its answers: an image alone and among others, the same product taken twice, and u'Hv = v'Hu.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes.products import Hessian

LOOKED_AT = 8  # images
SAME = 1e-3  # of the largest logit: float32 in another order of sums
NO_FURTHER = "torch::autograd::Error"  # torch's name of such an end
STILL = 1e-4  # of a product: the same sums again, on a GPU in another order


def must_be_in_evaluation_mode(network: Network) -> None:
    """Raise InputError where dropout or BatchNorm is not as it is for answers."""
    for name, module in network.body.named_modules():
        if module.training and isinstance(module, _DropoutNd) and module.p > 0:
            raise _refusal(f"dropout {name!r} in training mode, whose loss changes by chance")
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise _refusal(f"BatchNorm {name!r} without stored statistics in use")


def must_answer_alone(network: Network, pixels: Tensor) -> None:
    """Raise InputError where an image's answer depends on the others of its batch."""
    with torch.no_grad():
        among, alone = network(pixels[:LOOKED_AT])[:1], network(pixels[:1])
    if bool((among - alone).abs().max() > SAME * among.abs().max()):
        raise _refusal("logits of an image that change with the images beside it, or by chance")


def must_be_still(hessian: Hessian, chance: torch.Generator) -> None:
    """Raise InputError where one and the same product comes out different, or not finite, or is
    not that of a symmetric matrix.
    """
    one, two = (
        torch.randn(sum(hessian.sizes), generator=chance).to(hessian.weights[0]) for _ in range(2)
    )
    some = slice(0, LOOKED_AT)
    first, second = (hessian.graph(some) for _ in range(2))
    _must_go_on(first)
    once, twice, other = (
        hessian.bend(graph, v) for graph, v in ((first, one), (second, one), (first, two))
    )
    if not bool(torch.isfinite(once).all()):
        raise InputError(
            "found second derivatives of the loss that are not finite; wanted a smooth network: "
            "look for a root, norm or logarithm at 0 in it"
        )
    if bool(vector_norm(once - twice) > STILL * vector_norm(once)):
        raise _refusal("another Hessian at every look: the network draws from chance")
    if bool((two @ once - one @ other).abs() > SAME * vector_norm(once)):
        raise InputError(
            "found a Hessian that is not symmetric; wanted layers whose backward pass can be "
            "differentiated, in full precision: fold weight_norm into the weight by "
            "torch.nn.utils.parametrize.remove_parametrizations, take bfloat16, float16 or "
            "autocast out of the network's own code, and let backward passes of your own stay "
            "within torch, without detach()"
        )


def _must_go_on(graph: Sequence[Tensor]) -> None:
    """Raise InputError where the graph of the gradient ends in a function that allows no second
    derivative: it would count as 0, without a word.
    """
    ahead = [slope.grad_fn for slope in graph if slope.grad_fn is not None]
    met = set(ahead)
    while ahead:
        node = ahead.pop()
        if node.name() == NO_FURTHER:
            raise InputError(
                "found a layer without second derivatives (it is marked once_differentiable); "
                "wanted one that can be differentiated twice: put plain operations in its place"
            )
        new = {other for other, _ in node.next_functions if other is not None} - met
        met |= new
        ahead += new


def _refusal(found: str) -> InputError:
    return InputError(
        f"found {found}; wanted a network in evaluation mode throughout: leave its modules as "
        "eval() sets them, give BatchNorm its running statistics, and pass training=self.training "
        "to functional dropout"
    )
