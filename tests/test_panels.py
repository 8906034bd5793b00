"""Panels are plain data: what is packed comes back, and what is unknown is refused."""

import base64
import zlib

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from kdprobe.panels import Bytes, Frozen, Panel, Series, Table, Text

PANEL = TypeAdapter(Panel)


@pytest.mark.parametrize("shape", [(), (7,), (4, 5), (3, 4, 3), (0, 4)])
def test_bytes_come_back_as_they_were(shape):
    values = np.random.default_rng(0).integers(0, 256, size=shape)
    packed = Bytes.pack(values)
    assert packed.shape == shape
    np.testing.assert_array_equal(packed.unpack(), values)
    again = Bytes.model_validate_json(packed.model_dump_json())
    np.testing.assert_array_equal(again.unpack(), values)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (0.0, 1.0), (1e-3, 2e-3)])
def test_other_ranges_lose_at_most_half_a_level(low, high):
    values = np.random.default_rng(1).uniform(low, high, size=(9, 9))
    off = np.abs(Bytes.pack(values, low, high).unpack() - values)
    assert off.max() <= (high - low) / 255 / 2 * (1 + 1e-6)


def test_what_lies_outside_is_clipped():
    assert Bytes.pack([-9.0, 0.0, 9.0], -3, 3).unpack()[[0, 2]].tolist() == [-3, 3]


def test_a_range_without_width_is_its_lower_end():
    assert Bytes.pack([5.0, 6.0], 5, 5).unpack().tolist() == [5, 5]


def test_the_stored_form_is_that_of_the_docstring():
    packed = Bytes.pack([[0.0, 0.5], [1.0, 0.25]], 0, 1)
    levels = list(zlib.decompress(base64.b64decode(packed.data)))
    assert levels == [0, 128, 255, 64]


def test_a_line_over_seeds_has_their_mean_and_range():
    rows = [[1.0, 5.0], [3.0, 9.0], [2.0, 1.0]]
    line = Series.over_seeds("kd", [0, 10], rows, "student")
    assert line.y == (2, 5)
    assert (line.low, line.high) == ((1, 1), (3, 9))
    alone = Series.over_seeds("kd", [0, 10], rows[:1], "student")
    assert alone.y == (1, 5)
    assert alone.low == alone.high == ()


def test_panels_are_frozen_and_refuse_unknown_keys():
    panel = Text(title="a", text="b")
    with pytest.raises(ValidationError):
        panel.title = "c"
    with pytest.raises(ValidationError, match="colour"):
        Text(title="a", text="b", colour="red")


def test_the_kind_tells_which_panel_it_is():
    panel = Table(title="t", columns=("a",), rows=((1,), (None,), ("x",)))
    again = PANEL.validate_json(PANEL.dump_json(panel))
    assert again == panel
    assert type(again) is Table
    with pytest.raises(ValidationError, match="pie"):
        PANEL.validate_python({"kind": "pie", "title": "t"})


def test_no_undefined_number_is_written():
    class Number(Frozen):
        value: float

    assert Number(value=float("nan")).model_dump_json() == '{"value":null}'
    assert Number(value=float("inf")).model_dump_json() == '{"value":null}'
