"""Patches as words: a small vision transformer, normalised before each sublayer.

    x <- x + attention(norm(x)),   x <- x + mlp(norm(x)),   attention = softmax(Q K^T / sqrt(d)) V

The blocks stand in three stages of nearly equal length. Between stages, tokens lie as the map
(n, d, h/patch, w/patch) they came from, so taps and losses for maps read them like those of a
convolutional network. The mean of the last tokens is classified; there is no class token.

Sources: Dosovitskiy et al. 2021, arXiv:2010.11929, eq. 1-4 (patches, blocks, positions resized for
other images); Beyer et al. 2022, arXiv:2205.01580 (mean instead of class token).

Axes: n images, t tokens, d features, h and w pixels, c classes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kdprobe.errors import InputError
from kdprobe.models._residual import ResidualBlock
from kdprobe.models.contract import family
from kdprobe.taps import Tap

HEAD, SPREAD = 32, 0.02  # features a head; standard deviation of first weights


class Attention(nn.Module):
    """Every token reads from all tokens, in `heads` parts of its features."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, d)."""
        parts = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)  # each (n, heads, t, d / heads)
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)).softmax(dim=-1)
        out: Tensor = self.proj((weights @ value).transpose(1, 2).flatten(2))
        return out


class EncoderBlock(ResidualBlock):
    """Attention, then two linear layers with GELU; the input is added around each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        inner, outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(inner, nn.GELU(), outer)

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, d) -> (n, t, d)."""
        y = self.joined(self.attn(self.norm1(x)), lambda: x)
        return self.joined(self.mlp(self.norm2(y)), lambda: y)


class Stage(nn.Module):
    """Blocks in a row over the pixels of a map."""

    def __init__(self, blocks: int, width: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, d, h, w) -> (n, d, h, w)."""
        tokens = self.blocks(x.flatten(2).transpose(1, 2))
        out: Tensor = tokens.transpose(1, 2).unflatten(2, x.shape[2:])
        return out


class Embedding(nn.Module):
    """A patch becomes a token: its pixels mapped to d features, and its position added."""

    def __init__(self, width: int, patch: int, side: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, width, patch, stride=patch)
        self.position = nn.Parameter(torch.empty(1, width, side // patch, side // patch))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, d, h / patch, w / patch). Raises InputError for odd sizes."""
        h, w = x.shape[2:]
        if h % self.patch or w % self.patch:
            raise InputError(
                f"found images of {h}x{w} pixels; wanted whole patches of {self.patch}; choose a "
                "patch that divides both sides: patch=..."
            )
        out: Tensor = self.proj(x)
        return out + self._at(out.shape[2], out.shape[3])

    def _at(self, h: int, w: int) -> Tensor:
        if self.position.shape[2:] == (h, w):
            return self.position
        return interpolate(self.position, (h, w), mode="bicubic", align_corners=False)


class VisionTransformer(nn.Module):
    """Patches to tokens, three stages, norm, mean over tokens, linear layer."""

    upper_parts = ("stage3", "norm", "avgpool", "fc")

    def __init__(
        self, depth: int, width: int, num_classes: int, *, patch: int, heads: int, side: int
    ) -> None:
        super().__init__()
        self.embedding = Embedding(width, patch, side)
        for i in range(3):
            self.add_module(f"stage{i + 1}", Stage((depth + 2 - i) // 3, width, heads))
        self.norm = nn.LayerNorm(width)
        self.avgpool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(width, num_classes)
        self.taps = {
            "stem": Tap("embedding", "raw", "embedding"),
            **{f"stage{i}": Tap(f"stage{i}", "raw", f"stage{i}") for i in (1, 2, 3)},
            "pooled": Tap("avgpool", "raw", "norm"),
            "logits": Tap("", "raw", "fc"),
        }
        _start(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows."""
        h: Tensor = self.get_submodule("stage2")(self.get_submodule("stage1")(self.embedding(x)))
        return h

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        tokens = self.norm(self.get_submodule("stage3")(h).flatten(2).transpose(1, 2))
        logits: Tensor = self.fc(self.avgpool(tokens.transpose(1, 2)).flatten(1))
        return logits


def _start(model: VisionTransformer) -> None:
    """Small weights in all linear layers and positions, as transformers start; biases 0."""
    nn.init.trunc_normal_(model.embedding.position, std=SPREAD)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=SPREAD)
            nn.init.zeros_(module.bias)


@family(
    "vit",
    pattern=r"vit_(\d+)_(\d+)",
    summary="small vision transformer: vit_DEPTH_WIDTH; knobs: patch, heads, side",
    examples=("vit_6_128", "vit_9_192"),
)
def vit(
    depth: str,
    width: str,
    *,
    num_classes: int,
    patch: int = 4,
    heads: int | None = None,
    side: int = 32,
) -> nn.Module:
    """``vit_6_128``: six blocks of 128 features, by default in heads of 32.

    Its positions are made for images of `side` pixels in patches of `patch`; for images of another
    size that are whole patches they are resized (bicubic).

    Raises:
        InputError: fewer blocks than stages, or numbers that do not divide.
    """
    blocks, features = int(depth), int(width)
    name = f"'vit_{depth}_{width}'"
    heads = max(1, features // HEAD) if heads is None else heads
    if blocks < 3:
        raise InputError(f"found depth {depth} in {name}; wanted 3 or more; take vit_6_128")
    if features < 1 or heads < 1 or features % heads:
        raise InputError(
            f"found width {width} in {name} and {heads} heads; wanted heads of equal width; take "
            f"a multiple of {HEAD}, such as vit_6_128"
        )
    if patch < 1 or side < patch or side % patch:
        raise InputError(
            f"found patch={patch} for a side of {side} pixels; wanted whole patches; take patch=4, "
            "or the side of your images: side=..."
        )
    return VisionTransformer(blocks, features, num_classes, patch=patch, heads=heads, side=side)
