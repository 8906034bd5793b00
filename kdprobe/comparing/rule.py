"""What does a gate demand?  ``rho[layer=logits] < baseline - 0.05``, read and never executed.

rule       = all { "or" all }
all        = order { "and" order }
order      = sum [ ( "<" | "<=" | ">" | ">=" ) sum ]
sum        = product { ( "+" | "-" ) product }
product    = factor { ( "*" | "/" ) factor }
factor     = "-" factor | number | reference | "(" rule ")"
reference  = "baseline" [ places ] | "baseline" "(" quantity ")" | quantity
quantity   = name [ places ];  places = "[" key "=" text { "," key "=" text } "]"

Source of the method: recursive descent, a function a line of the grammar (Wirth 1996, chapter 4).
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kdprobe.comparing.terms import Condition, Order, Reference, Term, both, either, joined, ordered
from kdprobe.errors import UsageError

_PATTERN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*(?:\.\w+)*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')|(?P<order><=|>=|<|>)|(?P<sign>[-+*/()\[\],=])"
    r"|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)
LONGEST = 500  # letters
DEEPEST = 30  # brackets and signs in each other
EXAMPLE = "rho[layer=logits] < baseline - 0.05"


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    stop: int


def parse_rule(text: str) -> Condition:
    """The condition that `text` is. Raises UsageError, with the place, where it is none."""
    if len(text) > LONGEST:
        raise UsageError(
            f"found a rule of {len(text)} letters, wanted at most {LONGEST}; write several rules"
        )
    reader = _Reader(text)
    found = reader.condition(reader.rule())
    if reader.next.kind != "end":
        raise reader.refusal("the end, 'and' or 'or'")
    return found


class _Reader:
    """Reads from left to right with one token of foresight."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, list(_tokens(text))
        self._place = self._depth = 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._place]

    def take(self, *texts: str) -> _Token:
        """The next token; one of `texts`, where any are given."""
        token = self.next
        if texts and token.text not in texts:
            raise self.refusal(" or ".join(map(repr, texts)))
        self._place += 1
        return token

    def refusal(self, wanted: str) -> UsageError:
        found = repr(self.next.text) if self.next.text else "the end"
        return UsageError(
            f"the rule {self._text!r} cannot be read: at position {self.next.start + 1} found "
            f"{found}, wanted {wanted}; an example: {EXAMPLE!r}"
        )

    def condition(self, node: Term | Condition) -> Condition:
        if isinstance(node, Term):
            raise self.refusal("'<', '<=', '>' or '>='")
        return node

    def term(self, node: Term | Condition) -> Term:
        if isinstance(node, Condition):
            raise self.refusal("'and', 'or' or the end: what holds or not cannot be reckoned with")
        return node

    def rule(self) -> Term | Condition:
        found = self.all_of()
        while self.next.text == "or":
            left = self.condition(found)
            self.take()
            found = either(left, self.condition(self.all_of()))
        return found

    def all_of(self) -> Term | Condition:
        found = self.order()
        while self.next.text == "and":
            left = self.condition(found)
            self.take()
            found = both(left, self.condition(self.order()))
        return found

    def order(self) -> Term | Condition:
        start, left = self.next.start, self.sum()
        if self.next.kind != "order":
            return left
        small = self.term(left)
        sign = self.take().text
        large = self.term(self.sum())
        text = self._text[start : self._tokens[self._place - 1].stop]
        return ordered(Order.of(text, sign, small, large))

    def sum(self) -> Term | Condition:
        return self._chain(("+", "-"), self.product)

    def product(self) -> Term | Condition:
        return self._chain(("*", "/"), self.factor)

    def _chain(
        self, signs: tuple[str, ...], part: Callable[[], Term | Condition]
    ) -> Term | Condition:
        found = part()
        while self.next.text in signs:
            left = self.term(found)
            found = joined(self.take().text, left, self.term(part()))
        return found

    def factor(self) -> Term | Condition:
        if self.next.text in ("-", "("):
            return self.nested(self.take().text)
        if self.next.kind == "number":
            return Term.number(float(self.take().text))
        return Term.reference(self.reference())

    def nested(self, sign: str) -> Term | Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.refusal(f"at most {DEEPEST} brackets and signs in each other")
        if sign == "-":
            found: Term | Condition = joined("-", Term.number(0.0), self.term(self.factor()))
        else:
            found = self.rule()
            self.take(")")
        self._depth -= 1
        return found

    def reference(self) -> Reference:
        if self.next.text != "baseline":
            return self.quantity()
        self.take()
        if self.next.text != "(":
            return Reference("", self.places(), of_baseline=True)
        self.take()
        named = self.quantity()
        self.take(")")
        return Reference(named.name, named.pins, of_baseline=True)

    def quantity(self) -> Reference:
        if self.next.kind != "name" or self.next.text in ("and", "or", "baseline"):
            raise self.refusal("a quantity, 'baseline' or a number")
        return Reference(self.take().text, self.places())

    def places(self) -> tuple[tuple[str, str], ...]:
        if self.next.text != "[":
            return ()
        found: dict[str, str] = {}
        while self.next.text != "]" or not found:
            self.take(*([",", "]"] if found else ["["]))
            if self.next.kind != "name" or self.next.text in found:
                raise self.refusal("a coordinate such as layer, each once")
            key = self.take().text
            self.take("=")
            found[key] = self.word()
        self.take("]")
        return tuple(found.items())

    def word(self) -> str:
        """Everything up to the next comma or bracket, or what stands between quotation marks."""
        if self.next.kind == "text":
            return self.take().text[1:-1]
        start = self.next.start
        while self.next.text not in ("]", ",", ""):
            self.take()
        word = self._text[start : self.next.start].strip()
        if not word:
            raise self.refusal("a name, or one between quotation marks")
        return word


def _tokens(text: str) -> Iterator[_Token]:
    for match in _PATTERN.finditer(text):
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match.group(), match.start(), match.end())
    yield _Token("end", "", len(text), len(text))
