"""A folder of files becomes a catalogue: each public file adds itself when it is imported.

Third parties join through the entry-point group ``kdprobe.<room>``: the entry point names a
module, and importing it runs the same decorator as a file in the room would.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from kdprobe.errors import UnknownName

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'kd'?``, or nothing when no known name is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Catalogue(Generic[T]):
    """Entries of one kind, found by importing every module of `package` once, when first asked."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, T] = {}
        self._read = False

    def add(self, key: str, entry: T) -> T:
        """Enter `entry` under `key`. Raises ValueError when the key is taken."""
        if key in self._entries:
            raise ValueError(f"two {self.kind}s are called {key!r}; rename one of them")
        self._entries[key] = entry
        return entry

    def __getitem__(self, key: str) -> T:
        """The entry called `key`. Raises UnknownName, with the nearest name, when there is none."""
        self._read_folder()
        if key not in self._entries:
            hint = did_you_mean(key, self._entries) or "."
            raise UnknownName(f"no {self.kind} is called {key!r}{hint} Known: {', '.join(self)}")
        return self._entries[key]

    def __contains__(self, key: object) -> bool:
        self._read_folder()
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        self._read_folder()
        return iter(sorted(self._entries))

    def values(self) -> list[T]:
        """All entries, in the order of their keys."""
        return [self[key] for key in self]

    def _read_folder(self) -> None:
        if self._read:
            return
        self._read = True
        try:
            for module in iter_modules(import_module(self.package).__path__):
                if not module.name.startswith("_"):
                    import_module(f"{self.package}.{module.name}")
            for point in entry_points(group=self.package):
                point.load()
        except BaseException:
            self._read = False  # a broken file must fail again, not leave half a catalogue
            raise
