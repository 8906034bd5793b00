"""What is a finding?  One plain sentence about one subject, and where on the page its proof is."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["doubt", "difference", "remark"]
KINDS: tuple[Kind, ...] = ("doubt", "difference", "remark")  # in the order of the list


@dataclass(frozen=True)
class Finding:
    """Something to look at; `subject`: `what`."""

    subject: str
    what: str
    anchor: str  # id of the chapter that holds the evidence
    kind: Kind
    weight: float = 0.0  # the greater the earlier, among those of its kind
    arms: tuple[str, ...] = ()  # of a difference: whom it is told of
    panel: str = ""  # title of the one that shows it, where one does


def listed(names: list[str], most: int = 3) -> str:
    """``a, b and 4 more``: the first `most` names, and how many are left out."""
    more = len(names) - most
    if more > 1:
        return f"{', '.join(names[:most])} and {more} more"
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
