"""The vision transformer: its attention, its maps of tokens, its positions."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from kdprobe.errors import InputError
from kdprobe.models.contract import make_body
from kdprobe.models.vit import Attention, EncoderBlock
from kdprobe.taps import shapes

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _chance() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_pytorchs(heads: int) -> None:
    ours = Attention(16, heads)
    x = torch.randn(2, 5, 16)
    theirs = nn.MultiheadAttention(16, heads, batch_first=True)
    state = {"in_proj_weight": ours.qkv.weight, "in_proj_bias": ours.qkv.bias}
    state |= {"out_proj.weight": ours.proj.weight, "out_proj.bias": ours.proj.bias}
    theirs.load_state_dict(state)
    assert torch.allclose(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6)


def test_one_head_by_the_formula() -> None:
    layer = Attention(4, 1)
    x = torch.randn(1, 3, 4)
    query, key, value = layer.qkv(x).chunk(3, dim=2)
    wanted = layer.proj(scaled_dot_product_attention(query, key, value))
    assert torch.allclose(layer(x), wanted, atol=1e-6)


def test_a_block_is_pytorchs_encoder_layer() -> None:
    ours = EncoderBlock(16, 4)
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj."}
    names |= {"linear1.": "mlp.0.", "linear2.": "mlp.2.", "norm1.": "norm1.", "norm2.": "norm2."}
    own = ours.state_dict()
    state = {a + part: own[b + part] for a, b in names.items() for part in ("weight", "bias")}
    theirs.load_state_dict(state)
    x = torch.randn(2, 5, 16)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_taps_are_maps() -> None:
    model = make_body("vit_6_32", num_classes=7)
    found = shapes(model, model.taps, torch.rand(2, 3, 32, 32))
    maps = {name: (32, 8, 8) for name in ("stem", "stage1", "stage2", "stage3")}
    assert found == maps | {"pooled": (32, 1), "logits": (7,)}


@pytest.mark.parametrize(
    ("depth", "counts"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (2, 2, 1)), (6, (2, 2, 2))]
)
def test_stages_share_the_blocks(depth: int, counts: tuple[int, ...]) -> None:
    model = make_body(f"vit_{depth}_32", num_classes=7)
    assert tuple(len(model.get_submodule(f"stage{i}.blocks")) for i in (1, 2, 3)) == counts


def test_only_positions_tell_where_a_patch_is() -> None:
    model = make_body("vit_3_32", num_classes=7).eval()
    x = torch.rand(1, 3, 32, 32)
    moved = x.roll(8, dims=3)
    with torch.no_grad():
        assert not torch.allclose(model(x), model(moved), atol=1e-6)
        model.embedding.position.zero_()
        assert torch.allclose(model(x), model(moved), atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (64, 64), (32, 48)])
def test_other_sizes_resize_the_positions(shape: tuple[int, int]) -> None:
    model = make_body("vit_3_32", num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, *shape)).shape == (2, 7)
        model.embedding.position.fill_(0.5)
        model.embedding.proj.weight.zero_()
        found = model.embedding(torch.rand(1, 3, *shape)) - model.embedding.proj.bias[:, None, None]
    assert torch.allclose(found, torch.tensor(0.5), atol=1e-6)


def test_knobs() -> None:
    model = make_body("vit_3_48", num_classes=7, patch=2, heads=3, side=8)
    assert model.embedding.position.shape == (1, 48, 4, 4)
    assert model.get_submodule("stage1.blocks.0.attn").heads == 3
    assert make_body("vit_3_96", num_classes=7).get_submodule("stage1.blocks.0.attn").heads == 3


def test_it_learns() -> None:
    model = make_body("vit_3_16", num_classes=2, side=8)
    x, y = torch.randn(32, 3, 8, 8), torch.arange(32) % 2
    x[y == 1] += 0.5
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_images_of_broken_patches_are_refused() -> None:
    with pytest.raises(InputError, match="found images of 30x32 pixels; wanted whole patches of 4"):
        make_body("vit_3_32", num_classes=7)(torch.rand(1, 3, 30, 32))


@pytest.mark.parametrize(
    ("name", "knobs", "told"),
    [
        ("vit_2_32", {}, "found depth 2 in 'vit_2_32'; wanted 3 or more"),
        ("vit_3_33", {"heads": 2}, "found width 33 in 'vit_3_33' and 2 heads"),
        ("vit_3_0", {}, "found width 0"),
        ("vit_3_32", {"heads": 0}, "and 0 heads"),
        ("vit_3_32", {"patch": 5}, "found patch=5 for a side of 32 pixels"),
        ("vit_3_32", {"side": 2}, "found patch=4 for a side of 2 pixels"),
    ],
)
def test_impossible_numbers_are_refused(name: str, knobs: dict[str, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        make_body(name, num_classes=7, **knobs)
