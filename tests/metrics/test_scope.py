"""What may be asked of concepts: every setting that misleads is refused with its remedy."""

import inspect

import pytest
from stage import FAMILY, made_up, scope

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.scope import CHOICES, Discarding
from kdprobe.probes.contract import PROBES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": 1}, r"discarding\.probes is 1; wanted at least 2: one alone does not show its"),
        ({"restarts": 1}, r"discarding\.restarts is 1; wanted at least 2: one alone"),
        ({"draws": 2}, r"discarding\.draws is 2; wanted a multiple of 4: opposite pairs"),
        ({"noises": 2}, r"discarding\.noises is 2; wanted at least 4: one pair alone does not"),
        ({"noises": 7}, r"discarding\.noises is 7; wanted an even number: noise is drawn"),
        ({"draws": 6}, r"discarding\.draws is 6; wanted a multiple of 4"),
        ({"lam": 0.0}, r"discarding\.lam is 0; wanted above 0"),
        ({"noise": -1.0}, r"discarding\.noise is -1; wanted above 0"),
        ({"tolerance": 0.0}, r"discarding\.tolerance is 0; wanted above 0"),
        ({"radius": -0.1}, r"discarding\.radius is -0\.1; wanted 0 or more"),
        (
            {"probes": 31, "noises": 32},
            r"probes=31 and discarding\.noises=32; .* raise probes or lower noises",
        ),
    ],
)
def test_numbers_that_mislead_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        Discarding(**changes)


@pytest.mark.parametrize("name", list(CHOICES))
def test_words_are_one_of_those_known(name):
    for word in CHOICES[name]:
        assert getattr(Discarding(**{name: word}), name) == word
    known = ", ".join(CHOICES[name])
    with pytest.raises(UsageError, match=rf"discarding\.{name} is 'cell'; wanted {known}"):
        Discarding(**{name: "cell"})


def test_at_the_image_itself_probes_may_be_few():
    assert Discarding(radius=0.0, probes=2).probes == 2


def test_the_threshold_is_one_of_the_sweep():
    cut = Discarding(b=0.7, sweep=(2.0, 0.2))
    assert cut.thresholds == (0.2, 0.7, 2.0)
    assert cut.thresholds[cut.headline] == 0.7
    assert Discarding(b=1).headline == Discarding().thresholds.index(1.0)


@pytest.mark.parametrize("estimator", CHOICES["estimator"])
def test_an_estimator_is_told_exactly_what_its_probe_takes(estimator):
    known = inspect.signature(PROBES[estimator].look).parameters.values()
    knobs = {one.name for one in known if one.kind is one.KEYWORD_ONLY}
    assert set(Discarding(estimator=estimator).asked) | {"layers"} == knobs


def test_an_estimator_is_told_what_concerns_it_and_no_more():
    """So that the store keeps what it has when a setting of another estimator changes."""
    changes = {"probes": 64, "noises": 16, "steps": 99, "restarts": 3, "b": 1.0, "level": "image"}
    asked = {name: Discarding(estimator=name, **changes).asked for name in CHOICES["estimator"]}
    for one in asked.values():
        assert {"units", "grid", "lam"} <= set(one)
        assert not {"b", "sweep", "level", "object", "estimator"} & set(one)
    assert asked["jacobian"]["probes"] == 64
    assert "steps" not in asked["jacobian"]
    assert asked["fit"]["steps"] == 99
    assert asked["paper"]["restarts"] == 3
    assert "noises" not in asked["paper"]


@pytest.mark.parametrize(
    ("images", "k", "message"),
    [
        (3, 0, r"^needs at least 8 images, found 3; raise cka\.images$"),
        (50, 0, r"^needs at least 8 images, found 7; add test images$"),
        (
            3,
            2,
            r"for half samples with k = 2 neighbours, found 3; raise cka\.images or lower cka\.k$",
        ),
    ],
)
def test_too_few_images_are_told_with_what_to_do(images, k, message):
    asked = scope(made_up(FAMILY), available=7)
    with pytest.raises(NotApplicable, match=message):
        asked.enough("cka", images, 8, k)
    assert asked.enough("cka", images, 3) == min(images, 7)
