"""What shall be trained?  A recipe is TOML: a packaged one by its name, or a file of the user's.

``base = "name"`` begins with another recipe, and its tables are filled up or replaced key by key. A
table ``[search]`` adds arms that are drawn at random within a budget. A table ``[sweep.NAME]`` of
dotted keys makes a study of its own, ``NAME``, with these changes: a recipe with a sweep is several
studies. Overrides (``--set key.path=value``) come on top. Every fault is reported at once.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdprobe.errors import InputError, KdprobeError, RecipeError, UnknownName
from kdprobe.registry import did_you_mean
from kdprobe.train.faults import meaning_faults
from kdprobe.train.raw import Fault
from kdprobe.train.searching import searched_arms
from kdprobe.train.settings import Name, Recipe, Search
from kdprobe.train.shape_faults import shape_faults

__all__ = ["Recipe", "load_recipe", "load_recipes", "packaged_recipes", "settle"]


def packaged_recipes() -> tuple[str, ...]:
    """The names of the recipes that come with kdprobe."""
    folder = resources.files("kdprobe.train").joinpath("recipes")
    files = (Path(entry.name) for entry in folder.iterdir())
    return tuple(sorted(file.stem for file in files if file.suffix == ".toml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The packaged recipe of this name, or the one in this TOML file, with overrides on top.

    Args:
        name_or_path: such as ``demo`` or ``my/recipe.toml``.
        overrides: ``key.path=value`` each; the value is TOML, or else a plain string.

    Raises:
        UnknownName: no such packaged recipe and no such file.
        InputError: the file cannot be read.
        RecipeError: the recipe has faults (the message has one line for each), or is several.
    """
    found = load_recipes(name_or_path, overrides)
    if len(found) > 1:
        raise RecipeError(
            f"recipe {name_or_path} is a sweep of {len(found)} studies ({', '.join(found)}); "
            "wanted one: use load_recipes"
        )
    return next(iter(found.values()))


def load_recipes(name_or_path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Recipe]:
    """The studies of a recipe: one, called "", or those of its sweep by their names.

    Raises as `load_recipe` does.
    """
    raw = _based(_read(name_or_path), name_or_path)
    sweep, title = raw.pop("sweep", None), f"recipe {name_or_path}"
    if sweep is None:
        return {"": settle(raw, overrides, title=title)}
    tables = sweep.items() if isinstance(sweep, dict) else ()
    if not tables or not all(isinstance(changes, dict) for _, changes in tables):
        raise RecipeError(f"{title}: found sweep = {sweep!r}; wanted tables [sweep.NAME]")
    odd = [name for name in sweep if not re.fullmatch(Name, name)]
    if odd:
        wanted = "letters, digits, '_', '.' and '-' (it names a folder)"
        raise RecipeError(f"{title}: found the sweep's study {odd[0]!r}; wanted {wanted}")
    return {
        name: settle(
            {**raw, "name": f"{raw.get('name', '')}-{name}"},
            overrides,
            changes=changes,
            title=f"{title}, study {name}",
        )
        for name, changes in tables
    }


def _based(raw: dict[str, Any], place: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """`raw` on top of the recipe that it begins with; `above` are those that begin with it."""
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise RecipeError(f"recipe {place}: found base = {base!r}; wanted the name of a recipe")
    beside = Path(place).parent / base  # a file beside this one, else a packaged recipe
    source = beside if beside.suffix == ".toml" else Path(base)
    chain = (*above, Path(place).resolve())
    if source.resolve() in chain:
        raise RecipeError(
            f"recipe {place}: found base = {base!r}, which begins with this one; wanted a recipe "
            "that stands by itself"
        )
    return _merged(_based(_read(source), source, chain), raw)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; everything else is replaced.

    A table that names another model or data set takes over none of the old one's arguments.
    """
    found = dict(below)
    if above.get("name", found.get("name")) != found.get("name"):
        found.pop("arguments", None)
    for key, value in above.items():
        old = found.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        found[key] = value
    return found


def settle(
    raw: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    changes: Mapping[str, Any] | None = None,
    title: str,
) -> Recipe:
    """A recipe out of plain dictionaries. Raises RecipeError, with a line for each fault.

    `changes` are dotted keys and values of a sweep, under the overrides.
    """
    changed, faults = deepcopy(dict(raw)), []
    for key, value in (changes or {}).items():
        faults += _put(changed, key, value, f"found key {key!r} in the sweep")
    faults += _override(changed, overrides)
    changed, lacking = _searched(changed)
    faults += lacking
    recipe = None
    try:
        recipe = Recipe.model_validate_json(json.dumps(changed, default=str))
    except ValidationError as error:
        faults += shape_faults(error)
    faults += meaning_faults(changed)
    if recipe is None or faults:
        lines = [f"  {fault.key}: {fault.text}" for fault in faults]
        count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise RecipeError(f"{title} has {count}:\n" + "\n".join(lines))
    return recipe


def _read(name_or_path: str | Path) -> dict[str, Any]:
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        if str(name_or_path) not in packaged_recipes():
            known = packaged_recipes()
            near = did_you_mean(str(name_or_path), known) or "."
            raise UnknownName(
                f"no recipe is called {str(name_or_path)!r}{near} Known: {', '.join(known)}, "
                "or the path of a .toml file"
            )
        packaged = resources.files("kdprobe.train").joinpath("recipes", f"{name_or_path}.toml")
        return tomllib.loads(packaged.read_text(encoding="utf-8"))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read recipe {path} ({error.strerror}); give a .toml file or one of "
            f"{', '.join(packaged_recipes())}"
        ) from error
    except ValueError as error:
        raise RecipeError(f"recipe {path} is not TOML: {error}; mend its syntax") from error


def _searched(raw: dict[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """`raw` with the arms that its table [search] draws, under those that it names."""
    if raw.get("search") is None:
        return raw, []
    try:
        search = Search.model_validate_json(json.dumps(raw["search"], default=str))
        arms = searched_arms(search)
    except ValidationError:
        return raw, []  # told with the other shapes
    except KdprobeError as error:
        return raw, [Fault("search", str(error))]
    return {**raw, "arms": {**arms, **raw.get("arms", {})}}, []


def _override(changed: dict[str, Any], overrides: Sequence[str]) -> list[Fault]:
    """Put ``key.path=value`` texts into `changed`; what cannot be put is a fault."""
    faults: list[Fault] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        found = f"found override {override!r}"
        if not equals:
            faults.append(_no_place(found))
        else:
            faults += _put(changed, key, _value(text.strip()), found)
    return faults


def _put(changed: dict[str, Any], key: str, value: Any, found: str) -> list[Fault]:
    *folders, last = key.strip().split(".")
    table: Any = changed
    for folder in folders:
        table = table.setdefault(folder, {}) if isinstance(table, dict) else None
    if not last or not isinstance(table, dict):
        return [_no_place(found)]
    table[last] = value
    return []


def _no_place(found: str) -> Fault:
    return Fault("--set", f"{found}; wanted key.path=value, such as optimizer.lr=1")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
