"""Which losses, how heavy, and when?  ``0.1*cross_entropy + 0.9*kd(T=4)@until(epoch=20)``.

An expression is read without being executed:

sum   = term { "+" term }
term  = [ number "*" ] call [ "@" call ]        the second call is the schedule of the weight
call  = name [ "(" [ knob "=" value { "," knob "=" value } ] ")" ]
value = [ "-" ] number | "text" | true | false
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Value = float | int | str | bool
_PATTERN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')|(?P<sign>[*+(),=@-])|(?P<space>\s+)|(?P<other>.)"
)


class ExpressionError(ValueError):
    """A loss expression cannot be read; the message names the position, counted from 1."""


@dataclass(frozen=True)
class Call:
    """A name of a catalogue and its settings."""

    name: str
    knobs: tuple[tuple[str, Value], ...]
    position: int  # of the name in the text, counted from 1

    @property
    def label(self) -> str:
        """As it is written: ``kd(T=4)``."""
        knobs = ", ".join(f"{key}={_written(value)}" for key, value in self.knobs)
        return f"{self.name}({knobs})" if knobs else self.name


@dataclass(frozen=True)
class Term(Call):
    """One loss, its weight, and how the weight changes."""

    weight: float = 1.0
    schedule: Call | None = None  # None: always the same

    @property
    def label(self) -> str:
        """The term without its weight, as metrics name it: ``kd(T=4)``, ``kd@until(epoch=20)``."""
        own = super().label
        return f"{own}@{self.schedule.label}" if self.schedule else own


def _written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def parse_loss(text: str) -> tuple[Term, ...]:
    """The terms of a loss expression, in order.

    Raises:
        ExpressionError: the text is no sum of ``weight*name(knob=value)``, or names a term twice.
    """
    reader = _Reader(text)
    terms = [reader.term()]
    while reader.next.kind != "end":
        reader.take("sign", "+")
        terms.append(reader.term())
    for place, term in enumerate(terms):
        if term.label in [other.label for other in terms[:place]]:
            raise ExpressionError(
                f"position {term.position}: found {term.label!r} a second time, "
                "wanted it once; add the two weights"
            )
    return tuple(terms)


def parse_call(text: str) -> Call:
    """One call such as ``rotation(degrees=15)``. Raises ExpressionError where it is none."""
    reader = _Reader(text)
    found = reader.call()
    if reader.next.kind != "end":
        raise reader.refusal("the end")
    return found


class _Reader:
    """Reads from left to right with one token of foresight."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self.next = next(self._tokens)

    def take(self, kind: str, *texts: str) -> _Token:
        """The next token, which must be of this kind (and one of these texts)."""
        token = self.next
        if token.kind != kind or (texts and token.text not in texts):
            raise self.refusal(" or ".join(map(repr, texts)) or f"a {kind}")
        self.next = next(self._tokens, token)
        return token

    def refusal(self, wanted: str) -> ExpressionError:
        found = repr(self.next.text) if self.next.text else "the end"
        return ExpressionError(f"position {self.next.position}: found {found}, wanted {wanted}")

    def term(self) -> Term:
        weight = 1.0
        if self.next.kind == "number":
            weight = float(self.take("number").text)
            self.take("sign", "*")
        elif self.next.kind != "name":
            raise self.refusal("a weight or the name of a loss")
        loss, schedule = self.call(), None
        if self.next.text == "@":
            self.take("sign")
            schedule = self.call()
        return Term(loss.name, loss.knobs, loss.position, weight, schedule)

    def call(self) -> Call:
        name = self.take("name")
        knobs = self.knobs() if self.next.text == "(" else ()
        return Call(name.text, knobs, name.position)

    def knobs(self) -> tuple[tuple[str, Value], ...]:
        self.take("sign", "(")
        found: dict[str, Value] = {}
        while self.next.text != ")":
            if found:
                self.take("sign", ",", ")")
            if self.next.text in found:
                raise self.refusal("each knob once")
            key = self.take("name").text
            self.take("sign", "=")
            found[key] = self.value()
        self.take("sign", ")")
        return tuple(found.items())

    def value(self) -> Value:
        if self.next.text in ("true", "false"):
            return self.take("name").text == "true"
        if self.next.kind == "text":
            return self.take("text").text[1:-1]
        negative = self.next.text == "-" and bool(self.take("sign"))
        if self.next.kind != "number":
            raise self.refusal('a number, a "text", true or false')
        text = self.take("number").text
        number: float = int(text) if text.isdecimal() else float(text)
        return -number if negative else number


def _tokens(text: str) -> Iterator[_Token]:
    for match in _PATTERN.finditer(text):
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match.group(), match.start() + 1)
    yield _Token("end", "", len(text) + 1)
