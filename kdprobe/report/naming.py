"""How do names stay apart?  Where an earlier one is the same, by a number."""

from collections.abc import Iterable


def apart(names: Iterable[str], sign: str, *, files: bool = False) -> list[str]:
    """`names` in their order; the second ``x`` becomes ``x`` + `sign` + ``2``.

    Of `files`, whose system may not tell ``x`` from ``X``, the case makes no difference.
    """
    taken: set[str] = set()
    found = []
    for name in names:
        number, free = 1, name
        while (free.lower() if files else free) in taken:
            number += 1
            free = f"{name}{sign}{number}"
        taken.add(free.lower() if files else free)
        found.append(free)
    return found
