"""How does text fit into the narrow places of paper?  Long names are cut, long words may break."""

import re

LONGEST = 48  # letters of a name where there is little room
UNBROKEN = 32  # characters after which a word without spaces may be broken


def cut(name: str) -> str:
    """A name for a narrow place; the tables hold it in full."""
    return breakable(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def breakable(text: str) -> str:
    """Lets very long words, such as digests, go over several lines."""
    return re.sub(rf"(\S{{{UNBROKEN}}})(?=\S)", "\\1\u200b", text)
