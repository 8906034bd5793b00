"""Does the classifier rest on few features?  Pooled features set to 0 by chance in training.

    h -> h m / (1 - p),   m ~ Bernoulli(1 - p) for each image and feature;   h in evaluation

Chance is torch's global generator. No key of the state dict changes, and the tap ``pooled`` shows
features before any is dropped.

Source: Srivastava et al. 2014, JMLR 15, section 4.
"""

from dataclasses import replace

from torch import nn

from kdprobe.errors import InputError
from kdprobe.models.transforms.contract import transform
from kdprobe.taps import Tap


@transform(
    "dropout",
    title="pooled features dropped before the classifier",
    source="Srivastava et al. 2014, JMLR 15",
)
def dropout(body: nn.Module, *, p: float = 0.1) -> nn.Module:
    """Drop each pooled feature of `body` with probability `p`.

    Raises:
        InputError: `p` is no such probability, or `body` has no tap ``pooled`` without weights.
    """
    if not 0 <= p < 1:
        raise InputError(f"found p={p}; wanted a probability from 0 up to, not with, 1; take 0.1")
    taps: dict[str, Tap] = getattr(body, "taps", {})
    tap = taps.get("pooled")
    pool = body.get_submodule(tap.path) if tap else None
    if tap is None or pool is None or pool.state_dict():
        raise InputError(
            f"found no pooling layer in {type(body).__name__}; wanted a network with the tap "
            "'pooled', before its classifier: take a bundled one"
        )
    body.set_submodule(tap.path, nn.Sequential(pool, nn.Dropout(p)).train(body.training))
    taps["pooled"] = replace(tap, path=f"{tap.path}.0")
    return body
