"""What shares one noise scale?  Spreading and gathering over cells, parts and tokens."""

import pytest
import torch
from stage import cell_sums

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.probes.units import Units, units_of


def images(side: int = 8, parts: torch.Tensor | None = None, n: int = 3) -> Images:
    pixels = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.zeros(n, dtype=torch.int64), ("a",), None, parts)


def sequences(n: int = 3, t: int = 5, d: int = 4) -> Images:
    return Images(torch.randn(n, t, d), torch.zeros(n, dtype=torch.int64), ("a",), None)


def plain(units: Units) -> Units:
    """The same units by the general way."""
    return Units(units.members, units.positions, units.count)


def test_cells_gather_sums_of_squares_of_pixels():
    values = torch.rand(2, 3, 3, 8, 8)  # r, n, channels, h, w
    found = units_of(images(), "cells", 4).gather(values)
    wanted = torch.stack([cell_sums(some.sum(1), 4).flatten(1) for some in values])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("grid", [1, 2, 4, 8])
def test_the_fast_way_is_the_general_way(grid):
    units = units_of(images(), "cells", grid)
    scale, values = torch.rand(2, 3, grid**2), torch.rand(2, 3, 3, 8, 8)
    assert units.grid == grid
    torch.testing.assert_close(units.spread(scale), plain(units).spread(scale))
    torch.testing.assert_close(units.gather(values), plain(units).gather(values))


def test_a_grid_that_does_not_divide_is_a_partition():
    units = units_of(images(side=7), "cells", 4)
    assert units.grid == 0
    assert units.sizes.sum(1).tolist() == [49.0] * 3
    assert units.gather(torch.ones(1, 3, 3, 7, 7)).sum() == 3 * 3 * 49


def test_parts_share_a_scale_and_what_is_of_none_is_never_perturbed():
    parts = torch.full((3, 8, 8), -1)
    parts[:, :4] = 0
    parts[0, 6:] = 1
    units = units_of(images(parts=parts), "parts", 16)
    assert units.sizes.tolist() == [[32, 16], [32, 0], [32, 0]]
    spread = units.spread(torch.tensor([[2.0, 3.0]] * 3))
    assert spread.shape == (3, 1, 8, 8)
    assert spread[0, 0, [0, 7, 5], [0, 0, 5]].tolist() == [2, 3, 0]
    assert spread[1, 0, 7, 0] == 0


@pytest.mark.parametrize("lead", [(), (2,), (2, 4)])
def test_sums_and_slopes_are_those_of_an_index(lead):
    """Also where a unit is missing, and where a position is of none."""
    chance = torch.Generator().manual_seed(0)
    members = torch.randint(-1, 6, (3, 64), generator=chance)
    members[members == 2] = 5
    members[1, members[1] == 0] = 1
    units = Units(members, (8, 8), 6)
    index = torch.where(members < 0, 6, members).expand(*lead, 3, 64)
    values = torch.rand(*lead, 3, 64, generator=chance)
    wanted = torch.zeros(*lead, 3, 7).scatter_add(-1, index, values)[..., :6]
    scale = torch.rand(*lead, 3, 6, generator=chance, requires_grad=True)
    given = units.spread(scale)
    padded = torch.cat([scale, torch.zeros(*lead, 3, 1)], -1)
    assert torch.equal(given.flatten(-3), padded.gather(-1, index))
    (slope,) = torch.autograd.grad((given.flatten(-3) * values).sum(), scale)
    torch.testing.assert_close(slope, wanted)
    counts = torch.stack([(members == unit).sum(1) for unit in range(6)], 1)
    assert torch.equal(units.sizes, counts.float())


def test_every_token_is_a_unit():
    units = units_of(sequences(), "tokens", 16)
    values = torch.rand(2, 3, 5, 4)
    assert units.count == 5
    torch.testing.assert_close(units.gather(values), values.sum(-1))
    scale = torch.rand(3, 5)
    torch.testing.assert_close(units.spread(scale), scale[..., None])


def test_some_of_the_inputs():
    parts = torch.arange(3)[:, None, None].expand(3, 8, 8).contiguous()
    units = units_of(images(parts=parts), "parts", 1)
    assert units.take(slice(1, 2)).members.unique().tolist() == [1]
    assert units.take(slice(1, 2)).count == 3


def test_inputs_without_such_units_are_refused():
    with pytest.raises(InputError, match="found no part labels"):
        units_of(images(), "parts", 4)
    with pytest.raises(InputError, match="wanted cells or parts"):
        units_of(images(), "tokens", 4)
    with pytest.raises(InputError, match="wanted tokens"):
        units_of(sequences(), "cells", 4)
