"""Corruptions: counts by their formulas, rates within their bounds, and labels against loops."""

import itertools
import re

import pytest
import torch

from kdprobe.errors import InputError, UnknownName
from kdprobe.train.corrupting import corrupted, corruption_faults
from kdprobe.train.corruptions.contract import CORRUPTIONS, Taken
from kdprobe.train.corruptions.power_law import numbers

K = 10
LABELS = torch.arange(K).repeat(400)
TRIES = ["label_noise(rate=0.4)", "power_law(gamma=0.2)", "fraction(share=0.1)", "bootstrap"]


def taken(text: str, labels: torch.Tensor = LABELS, seed: int = 0) -> Taken:
    return corrupted(labels, K, [text] if text else [], seed)


def flips(text: str, seed: int = 0) -> float:
    return float((taken(text, seed=seed).labels != LABELS).float().mean())


def test_the_room_holds_these_corruptions():
    assert {text.split("(")[0] for text in TRIES} <= set(CORRUPTIONS)


def test_without_corruption_all_images_keep_their_labels():
    found = taken("")
    assert torch.equal(found.rows, torch.arange(len(LABELS)))
    assert torch.equal(found.labels, LABELS)


@pytest.mark.parametrize("text", TRIES)
def test_the_seed_alone_decides_and_rows_and_labels_fit(text):
    torch.manual_seed(0)
    one = taken(text, seed=4)
    torch.manual_seed(1)
    two = taken(text, seed=4)
    assert torch.equal(one.rows, two.rows)
    assert torch.equal(one.labels, two.labels)
    assert one.rows.dtype == one.labels.dtype == torch.int64
    assert one.rows.shape == one.labels.shape
    if "noise" not in text:
        assert torch.equal(one.labels, LABELS[one.rows])
    if "power" not in text:  # which draws nothing
        other = taken(text, seed=5)
        assert not (torch.equal(one.rows, other.rows) and torch.equal(one.labels, other.labels))


@pytest.mark.parametrize(
    ("kind", "share"), [("uniform", (K - 1) / K), ("symmetric", 1.0), ("pair", 1.0)]
)
@pytest.mark.parametrize("rate", [0.2, 0.4, 0.6])
def test_labels_change_at_the_rate_of_their_kind(kind, share, rate):
    wanted = rate * share
    spread = (wanted * (1 - wanted) / len(LABELS)) ** 0.5
    assert abs(flips(f'label_noise(rate={rate}, kind="{kind}")') - wanted) < 4 * spread


def test_wrong_labels_are_those_of_their_kind():
    everything = {"uniform": K - 1, "symmetric": K - 1, "pair": 1}
    for kind, others in everything.items():
        found = taken(f'label_noise(rate=1.0, kind="{kind}")').labels
        steps = ((found - LABELS) % K).bincount(minlength=K)
        assert (steps[0] > 0) == (kind == "uniform")
        assert int((steps[1:] > 0).sum()) == others
        if kind != "pair":  # equally often: chi squared of 8 degrees or fewer stays below 40
            even = steps[steps > 0].double()
            assert float(((even - even.mean()) ** 2 / even.mean()).sum()) < 40


def test_a_higher_rate_adds_to_the_flips_of_a_lower_one():
    few, many = (taken(f'label_noise(rate={rate}, kind="symmetric")').labels for rate in (0.2, 0.6))
    at = few != LABELS
    assert torch.equal(few[at], many[at])
    assert flips("label_noise(rate=0.0)") == 0


@pytest.mark.parametrize(
    ("gamma", "wanted"),
    [
        (0.2, [5000, 858, 557, 439, 375, 333, 304, 282, 264, 250]),
        (0.6, [5000, 1166, 720, 539, 440, 376, 331, 297, 271, 250]),
        (1.0, [5000, 1607, 957, 682, 529, 433, 366, 317, 280, 250]),
        (2.0, [5000, 3173, 1972, 1289, 892, 648, 490, 382, 306, 250]),
    ],
)
def test_counts_are_those_of_the_published_formula(gamma, wanted):
    b = (250 * K**gamma - 5000) / (5000 - 250)
    a = 5000 * (1 + b)
    assert [round(a / (b + c**gamma)) for c in range(1, K + 1)] == wanted
    assert numbers(K, gamma, 5000, 250) == wanted
    kept = taken(f"power_law(gamma={gamma})", torch.arange(K).repeat(5000))
    assert kept.labels.bincount().tolist() == wanted


def test_counts_stay_within_their_ends():
    assert numbers(K, 900.0, 100, 5) == [100] * 9 + [5]
    assert numbers(K, 1.0, 7, 7) == [7] * K
    assert numbers(1, 1.0, 7, 2) == [7]


def test_the_first_images_of_each_class_are_kept():
    chance = torch.Generator().manual_seed(0)
    labels = LABELS[torch.randperm(len(LABELS), generator=chance)]
    found = taken("power_law(gamma=1.0, most=40, least=4)", labels)
    left, wanted = dict(enumerate(numbers(K, 1.0, 40, 4))), []
    for row, label in enumerate(labels.tolist()):
        if left[label]:
            left[label] -= 1
            wanted.append(row)
    assert found.rows.tolist() == wanted


@pytest.mark.parametrize("share", [1e-6, 0.1, 0.333, 1.0])
def test_a_fraction_takes_as_much_of_every_class(share):
    found = taken(f"fraction(share={share})")
    assert found.labels.bincount().tolist() == [max(1, round(share * 400))] * K
    assert len(set(found.rows.tolist())) == len(found.rows)


def test_a_larger_fraction_holds_the_smaller_one():
    small, large = (set(taken(f"fraction(share={s})").rows.tolist()) for s in (0.1, 0.3))
    assert small < large


def test_a_bootstrap_leaves_out_one_in_e():
    found = taken("bootstrap").rows
    assert len(found) == len(LABELS)
    assert abs(1 - len(set(found.tolist())) / len(LABELS) - 0.3679) < 0.03


def test_corruptions_follow_one_another_and_do_not_share_draws():
    both = corrupted(LABELS, K, ["power_law(gamma=0.2)", "label_noise(rate=0.4)"], seed=0)
    first = taken("power_law(gamma=0.2)")
    assert torch.equal(both.rows, first.rows)
    alone = corrupted(first.labels, K, ["label_noise(rate=0.4)"], seed=0)
    assert torch.equal(both.labels, alone.labels)
    twice = corrupted(LABELS, K, ['label_noise(rate=1.0, kind="symmetric")'] * 2, seed=0)
    assert float((twice.labels == LABELS).float().mean()) < 0.5  # the second is no copy
    for texts in itertools.permutations(TRIES):
        found = corrupted(LABELS, K, texts, seed=1)
        assert len(found.rows) == len(found.labels) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label_noise(rate=1.5)", "found rate=1.5; wanted a share"),
        ("label_noise(rate=-1)", "found rate=-1"),
        ("label_noise(rate=true)", "found rate=True"),
        ('label_noise(kind="odd")', "found kind='odd'; wanted \"uniform\""),
        ("power_law(gamma=0)", "found gamma=0; wanted a power above 0"),
        ('power_law(gamma="1")', "found gamma='1'"),
        ("power_law(most=5, least=6)", "found most=5 and least=6 .* wanted whole numbers"),
        ("power_law(least=0)", "least=0"),
        ("power_law(most=2.5)", "most=2.5"),
        ("fraction(share=0)", "found share=0; wanted a share of the images"),
        ("fraction(share=2)", "found share=2"),
        ("bootstrap(n=3)", "'bootstrap' with knob 'n'; wanted none"),
        ("fraction(shard=0.1)", "knob 'shard'; wanted share; did you mean 'share'"),
        ("power_low", "found 'power_low'; wanted .*; did you mean 'power_law'"),
        ("fraction(", "position 10: found the end, wanted a name"),
    ],
)
def test_a_senseless_corruption_is_told_of(text, message):
    (found,) = corruption_faults(text)
    assert re.search(message, found), found


@pytest.mark.parametrize("text", [*TRIES, "power_law(most=20000, least=3)", "fraction(share=1)"])
def test_a_sound_corruption_has_no_fault(text):
    assert list(corruption_faults(text)) == []


def test_what_cannot_be_done_to_these_labels_is_refused():
    with pytest.raises(InputError, match=r"400 of class 0 \(500 wanted\); .* lower most="):
        taken("power_law(most=500)")
    with pytest.raises(InputError, match="found 1 class; wanted at least 2"):
        corrupted(torch.zeros(5, dtype=torch.int64), 1, ["label_noise"], seed=0)
    with pytest.raises(InputError, match=r"corruption 'fraction\(': position 10"):
        taken("fraction(")
    with pytest.raises(UnknownName, match="no corruption is called 'frac'"):
        taken("frac")
