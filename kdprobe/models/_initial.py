"""Which weights does a network start from?  He normal over the fan-out, as the zoos do."""

from torch import nn


def kaiming(model: nn.Module) -> None:
    """Draw every convolution of `model` from N(0, 2 / fan-out); normalisations start as identity.

    Source: He et al. 2015, arXiv:1502.01852, section 2.2 (backward case). Linear layers keep
    PyTorch's own start. Draws from the global generator, as every `nn.Module` does when made.
    A network on the device ``meta`` has no weights to draw.
    """
    if any(weight.is_meta for weight in model.parameters()):
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
