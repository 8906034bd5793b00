"""Rules are read as Python would reckon them, and refused with the place of what is wrong."""

import itertools
import random

import pytest

from kdprobe.comparing.rule import DEEPEST, LONGEST, parse_rule
from kdprobe.comparing.terms import Order, Reference, Term, both, either, ordered
from kdprobe.errors import UsageError

A, B, BASE = Reference("a"), Reference("b.c"), Reference("", (), of_baseline=True)
VALUES = {A: 0.75, B: -2.0, BASE: 0.5}


def judged(text: str) -> bool | None:
    return parse_rule(text).truth(lambda order: order.holds(order.gap(VALUES)))


def made(chance: random.Random, depth: int = 3) -> str:
    """A random sum, with as many brackets and signs as Python would need."""
    kind = chance.randrange(6 if depth else 2)
    if kind == 0:
        return chance.choice(["a", "b.c", "baseline"])
    if kind == 1:
        return chance.choice(["2", "0.5", "1e-1", ".25", "3."])
    if kind == 2:
        return f"({made(chance, depth - 1)})"
    if kind == 3:
        return f"-{made(chance, depth - 1)}"
    signs = chance.choice([" + ", "-", "*", " / "])
    return f"{made(chance, depth - 1)}{signs}{made(chance, depth - 1)}"


class Namespace:
    c = VALUES[B]


@pytest.mark.parametrize("draw", range(60))
def test_rules_mean_what_python_says(draw):
    chance = random.Random(draw)
    order = lambda: f"{made(chance)} {chance.choice(['<', '<=', '>', '>='])} {made(chance)}"  # noqa: E731 - short
    text = f"{order()} and {order()} or ({order()} or {order()}) and {order()}"
    names = {"a": VALUES[A], "b": Namespace, "baseline": VALUES[BASE]}
    try:
        expected = eval(text, {"__builtins__": {}}, names)
    except ZeroDivisionError:
        pytest.skip("Python divides by zero")
    assert judged(text) == expected


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a<1", True),
        ("a-1<0", True),
        ("baseline-0.05<a", True),
        ("a - 1 - 1 < -1.2", True),
        ("2 / 2 / 2 < 0.6", True),
        ("a<=0.75", True),
        ("a<0.75", False),
        ("(a<1)", True),
        ("((a<1) and (a>1) or a>0)", True),
        ("a < 1 or a < 1 and a > 1", True),
    ],
)
def test_order_of_signs(text, holds):
    assert judged(text) is holds


@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ("rho[layer=logits] < 1", (("layer", "logits"),)),
        ("rho[ layer = layer4.1 , arm = kd-T=4 ] < 1", (("layer", "layer4.1"), ("arm", "kd-T=4"))),
        ("rho[layer='a, b]', arm=\"x\"] < 1", (("layer", "a, b]"), ("arm", "x"))),
        ("rho[arm=deep mutual (2)] < 1", (("arm", "deep mutual (2)"),)),
        ("rho[arm=für/Elise ρ] < 1", (("arm", "für/Elise ρ"),)),
        ("rho < 1", ()),
    ],
)
def test_places_in_brackets(text, pins):
    assert parse_rule(text).orders[0].references == (Reference("rho", pins),)


def test_the_baseline_alone_or_of_a_quantity():
    alone, own, pinned = (
        parse_rule(f"rho < {text}").orders[0].references[1]
        for text in ("baseline", "baseline(cka[layer=a])", "baseline[layer=a]")
    )
    assert alone == BASE
    assert own == Reference("cka", (("layer", "a"),), of_baseline=True)
    assert pinned == Reference("", (("layer", "a"),), of_baseline=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", 1),
        ("rho", 4),
        ("rho <", 6),
        ("< 1", 1),
        ("rho < 1 2", 9),
        ("rho < 1 < 2", 9),
        ("rho = 1", 5),
        ("rho == 1", 5),
        ("(rho < 1", 9),
        ("rho < 1)", 8),
        ("(rho < 1) + 2 < 3", 11),
        ("rho and 1 < 2", 5),
        ("rho < 1 and", 12),
        ("rho < 1 and cka", 16),
        ("rho or cka < 1", 5),
        ("-(rho < 1) < 2", 12),
        ("rho[] < 1", 5),
        ("rho[layer] < 1", 10),
        ("rho[layer=] < 1", 11),
        ("rho[layer=a,layer=b] < 1", 13),
        ("rho[layer=a < 1", 16),
        ("baseline(1) < 2", 10),
        ("baseline(baseline) < 2", 10),
        ("baseline(rho < 2", 14),
        ("and < 1", 1),
        ("rho < ; 1", 7),
        ("rho < __import__('os')", 17),
        ("rho ** 2 < 1", 6),
        ("-" * (DEEPEST + 1) + "1 < 2", DEEPEST + 2),
        ("(" * (DEEPEST + 1) + "1" + ")" * (DEEPEST + 1) + "< 2", DEEPEST + 2),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(text, place):
    with pytest.raises(UsageError, match=f"at position {place} found .* wanted .* an example"):
        parse_rule(text)


def test_a_rule_too_long_is_refused():
    with pytest.raises(UsageError, match="several rules"):
        parse_rule("1 < 2" + " and 1 < 2" * LONGEST)
    assert judged("+".join(["1"] * ((LONGEST - 4) // 2)) + " > 2")


def test_deep_rules_are_read_at_once():
    assert judged("(" * DEEPEST + "1 < 2" + ")" * DEEPEST)


@pytest.mark.parametrize(("left", "right"), list(itertools.product((True, False, None), repeat=2)))
def test_what_is_unknown_matters_only_where_it_could_decide(left, right):
    """Kleene's logic, by trying what the unknown might be."""
    one, two = (Order(name, lambda values: 0.0, False, ()) for name in "ab")
    known = {one: left, two: right}
    for join, python in ((both, all), (either, any)):
        open_ends = [(value,) if value is not None else (True, False) for value in (left, right)]
        possible = {python(pair) for pair in itertools.product(*open_ends)}
        expected = possible.pop() if len(possible) == 1 else None
        assert join(ordered(one), ordered(two)).truth(known.__getitem__) is expected


def test_a_term_of_nothing_named_has_no_references():
    assert Term.number(2.0).references == ()
