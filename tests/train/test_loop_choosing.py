"""Validation chooses: the best epoch, when to stop, and which network; on lines made by hand."""

import pytest

from kdprobe.train.choosing import best_epoch, chosen, has_stopped


def lines(*accuracies):
    """From epoch 0 on."""
    return [
        {"epoch": epoch, "validation_accuracy": accuracy, "test_accuracy": 1 - (accuracy or 0)}
        for epoch, accuracy in enumerate(accuracies)
    ]


def losses(*found):
    return [{"epoch": epoch, "validation_loss": loss} for epoch, loss in enumerate(found)]


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ((0.1, 0.2, 0.7, 0.4), 2),
        ((0.1, 0.2, 0.7, 0.7), 2),  # of equals the first
        ((0.1, 0.5, 0.5, 0.5), 1),
        ((0.9, 0.2, 0.3), 2),  # the start is never the best
        ((0.9, 0.0, 0.0), 1),
        ((0.1, None, 0.3), 2),
        ((None, None, None), None),
        ((0.9,), None),
        ((), None),
    ],
)
def test_the_best_epoch(accuracies, best):
    assert best_epoch(lines(*accuracies)) == best


def test_the_order_of_the_lines_does_not_matter():
    assert best_epoch(lines(0.1, 0.6, 0.2, 0.6)[::-1]) == 1


def test_lines_that_know_no_validation_have_no_best():
    assert best_epoch([{"epoch": 1, "test_accuracy": 0.9}]) is None


@pytest.mark.parametrize(
    ("state", "values"), [("kept", (1.0, 0.5, 0.5)), ("rounds", (False, True, True))]
)
def test_a_network_that_is_not_yet_what_it_will_be_is_not_the_best(state, values):
    course = [
        {"epoch": place + 1, "validation_accuracy": accuracy, state: value}
        for place, (accuracy, value) in enumerate(zip((0.9, 0.6, 0.5), values, strict=True))
    ]
    assert best_epoch(course) == 2
    assert best_epoch(course[:1]) == 1


@pytest.mark.parametrize(
    ("found", "patience", "stopped"),
    [
        ((9, 3, 2, 1), 1, False),
        ((9, 3, 2, 2.5), 1, True),
        ((9, 3, 2, 2), 1, True),  # as low is not lower
        ((9, 3, 2, 2.5), 2, False),
        ((9, 3, 2, 2.5, 2.1), 2, True),
        ((9, 3, 4, 2), 2, False),
        ((0, 3), 1, False),  # the start does not count
        ((0,), 1, False),
        ((9, 1, 2, 3, 4, 5), None, False),
        ((9, 1, 2, 3, 4, 5), 4, True),
        ((9, 1, 2, 3, 4, 5), 5, False),
    ],
)
def test_patience_waits_for_a_lower_loss(found, patience, stopped):
    assert has_stopped(losses(*found), patience) is stopped


def test_without_patience_no_validation_is_needed():
    assert has_stopped([{"epoch": 1}], None) is False


@pytest.mark.parametrize(
    ("last", "place"),
    [((0.2, 0.6, 0.5), 1), ((0.6, 0.6, 0.5), 0), ((None, 0.1), 1), ((None, None), 0), ((0.3,), 0)],
)
def test_of_several_the_best_at_the_last_epoch_is_chosen(last, place):
    assert chosen([lines(0.1, 0.9 - 0.2 * i, end) for i, end in enumerate(last)]) == place
