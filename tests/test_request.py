"""What a request means for the images that are there."""

import pytest
import torch
from handmade import RUNS, write_study

from kdprobe.datasets.contract import Images
from kdprobe.errors import UnknownName, UsageError
from kdprobe.request import Request, scope_of
from kdprobe.study import load_study


def images(height: int, width: int, masks: bool = True) -> Images:
    return Images(
        pixels=torch.rand(5, 3, height, width),
        labels=torch.zeros(5, dtype=torch.int64),
        classes=tuple("0123456789"),
        objects=torch.ones(5, height, width, dtype=torch.bool) if masks else None,
    )


@pytest.fixture
def study(tmp_path):
    return load_study(write_study(tmp_path, RUNS))


@pytest.mark.parametrize(
    ("height", "width", "grid"), [(32, 32, 16), (28, 28, 14), (30, 45, 15), (224, 224, 16)]
)
def test_the_grid_is_the_nearest_that_divides_the_images(study, height, width, grid):
    assert scope_of(study, Request(), images(height, width)).discarding.grid == grid


def test_a_chosen_grid_that_does_not_divide_is_refused(study):
    request = Request(settings={"discarding": {"grid": 16}})
    with pytest.raises(UsageError, match=r"28 × 28 pixels .*--set discarding\.grid=14"):
        scope_of(study, request, images(28, 28))
    assert scope_of(study, request, images(28, 28, masks=False)).discarding.grid == 16


def test_a_layer_that_one_network_lacks_names_the_run(study):
    with pytest.raises(UnknownName, match=r"run 't': found no layer 'layer9'.*every network"):
        scope_of(study, Request(layers=("layer9",)), images(32, 32))


def test_how_many_images_there_are_is_known(study):
    scope = scope_of(study, Request(images=99), images(32, 32))
    assert (scope.images, scope.available) == (99, 5)
