"""What a request means for the images that are there."""

import pytest
import torch
from handmade import NETWORK, RUNS, write_study

from kdprobe.datasets.contract import Images
from kdprobe.errors import NotApplicable, UnknownName, UsageError
from kdprobe.metrics.looking import ConceptLook
from kdprobe.metrics.scope import Discarding
from kdprobe.request import Request, scope_of, with_estimator
from kdprobe.study import load_study

DIGITS = tuple("0123456789")


def images(height: int, width: int, masks: bool = True) -> Images:
    return Images(
        pixels=torch.rand(5, 3, height, width),
        labels=torch.zeros(5, dtype=torch.int64),
        classes=DIGITS,
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
    centred = Request(settings={"discarding": {"grid": 16, "object": "centre"}})
    with pytest.raises(UsageError, match="wanted a grid that divides both"):
        scope_of(study, centred, images(28, 28, masks=False))


def test_a_grid_finer_than_the_image_is_refused_whatever_the_masks(study):
    request = Request(settings={"discarding": {"grid": 40}})
    for masks in (True, False):
        with pytest.raises(UsageError, match=r"32 × 32 pixels .*grid=40; .*grid=32"):
            scope_of(study, request, images(32, 32, masks))
    assert scope_of(study, Request(), images(8, 8, masks=False)).discarding.grid == 8


def test_the_centre_needs_no_masks(study):
    request = Request(settings={"discarding": {"object": "centre"}})
    scope = scope_of(study, request, images(32, 32, masks=False))
    assert not scope.has_masks
    assert ConceptLook(scope, study).pictures
    told = r"needs object masks; data set 'digits' has none; --set discarding\.object=centre takes"
    with pytest.raises(NotApplicable, match=told):
        ConceptLook(scope_of(study, Request(), images(32, 32, masks=False)), study)


def sequences() -> Images:
    return Images(torch.randn(5, 7, 4), torch.zeros(5, dtype=torch.int64), DIGITS, None)


def test_sequences_have_tokens_unless_something_else_is_chosen(study):
    assert scope_of(study, Request(), sequences()).discarding.units == "tokens"
    assert scope_of(study, Request(), images(32, 32)).discarding.units == "cells"
    chosen = Request(settings={"discarding": {"units": "parts"}})
    assert scope_of(study, chosen, sequences()).discarding.units == "parts"


def test_of_parts_the_grid_means_nothing(study):
    request = Request(settings={"discarding": {"units": "parts", "grid": 16}})
    assert scope_of(study, request, images(30, 45)).discarding.grid == 16


def test_settings_become_those_of_concepts(study):
    chosen = {"sweep": [0.5, 3], "relu": True, "estimator": "fit", "match": "entropy", "b": 1}
    cut = scope_of(study, Request(settings={"discarding": chosen}), images(32, 32)).discarding
    assert cut == Discarding(sweep=(0.5, 3), relu=True, estimator="fit", match="entropy", b=1)
    assert cut.thresholds == (0.5, 1.0, 3.0)


@pytest.mark.parametrize(
    ("estimator", "chosen", "readers"),
    [
        ("jacobian", {"match": "distortion"}, "only fit does"),
        ("jacobian", {"match": "weight"}, "only fit does"),
        ("jacobian", {"restarts": 2}, "only paper does"),
        ("fit", {"probes": 8}, "only jacobian does"),
        ("paper", {"relu": True}, "only jacobian and fit do"),
        ("paper", {"noise": 0.1}, "only jacobian and fit do"),
    ],
)
def test_a_setting_that_the_estimator_does_not_read_is_refused(study, estimator, chosen, readers):
    request = Request(settings=with_estimator({"discarding": chosen}, estimator))
    (name,) = chosen
    told = rf"found discarding\.{name} with the estimator {estimator}, .*; {readers}: leave it out"
    with pytest.raises(UsageError, match=told):
        scope_of(study, request, images(32, 32))


@pytest.mark.parametrize("estimator", ["jacobian", "fit", "paper"])
def test_every_estimator_accepts_what_it_reads_and_what_all_share(study, estimator):
    shared = {"estimator", "b", "sweep", "level", "object", "units", "grid", "lam"}
    default = Discarding(estimator=estimator)
    chosen = {name: getattr(default, name) for name in shared | {*default.asked}}
    request = Request(settings={"discarding": chosen})
    assert scope_of(study, request, images(32, 32)).discarding == default


def test_every_setting_is_shared_or_read_by_some_estimator(study):
    shared = {"estimator", "b", "sweep", "level", "object", "units", "grid", "lam"}
    read = [Discarding(estimator=key).asked for key in ("jacobian", "fit", "paper")]
    assert shared.union(*read) == set(Discarding.__dataclass_fields__)


def test_an_estimator_that_is_named_is_one_more_setting():
    settings = {"discarding": {"grid": 8}, "cka": {"batch": 4}}
    assert with_estimator(settings, None) == settings
    wanted = {"discarding": {"grid": 8, "estimator": "paper"}, "cka": {"batch": 4}}
    assert with_estimator(settings, "paper") == wanted
    assert with_estimator({}, "fit") == {"discarding": {"estimator": "fit"}}
    assert settings == {"discarding": {"grid": 8}, "cka": {"batch": 4}}, "left as it was"


def test_a_layer_that_one_network_lacks_names_the_run(study):
    with pytest.raises(UnknownName, match=r"run 't': found no layer 'layer9'.*every network"):
        scope_of(study, Request(layers=("layer9",)), images(32, 32))


def test_how_many_images_there_are_is_known(study):
    scope = scope_of(study, Request(images=99), images(32, 32))
    assert (scope.images, scope.available) == (99, 5)


VGG = {"name": "vgg8", "num_classes": 10}


@pytest.mark.parametrize(
    ("estimator", "network", "chosen", "lam"),
    [
        ("paper", VGG, {}, 7.0),
        ("paper", VGG, {"lam": 2.0}, 2.0),
        ("paper", NETWORK, {}, 6.0),
        ("fit", VGG, {}, 6.0),
    ],
)
def test_the_papers_weight_is_that_of_its_family(tmp_path, estimator, network, chosen, lam):
    entries = [{**entry, "network": network} for entry in RUNS]
    study = load_study(write_study(tmp_path, entries))
    request = Request(settings=with_estimator({"discarding": chosen}, estimator))
    assert scope_of(study, request, images(32, 32)).discarding.lam == lam
