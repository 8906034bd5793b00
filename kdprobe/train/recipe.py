"""What shall be trained?  A recipe is TOML: a packaged one by its name, or a file of the user's.

Overrides (``--set key.path=value``) come on top. Every fault is reported at once.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdprobe.errors import InputError, RecipeError, UnknownName
from kdprobe.registry import did_you_mean
from kdprobe.train.faults import Fault, meaning_faults, shape_faults
from kdprobe.train.settings import Recipe

__all__ = ["Recipe", "load_recipe", "packaged_recipes", "settle"]


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
        RecipeError: the recipe has faults; the message has one line for each.
    """
    return settle(_read(name_or_path), overrides, title=f"recipe {name_or_path}")


def settle(raw: Mapping[str, Any], overrides: Sequence[str] = (), *, title: str) -> Recipe:
    """A recipe out of plain dictionaries. Raises RecipeError, with a line for each fault."""
    changed, faults = _overridden(raw, overrides)
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


def _overridden(
    raw: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[Fault]]:
    changed, faults = deepcopy(dict(raw)), []
    for override in overrides:
        key, equals, text = override.partition("=")
        *folders, last = key.strip().split(".")
        table: Any = changed
        for folder in folders:
            table = table.setdefault(folder, {}) if isinstance(table, dict) else None
        if not equals or not last or not isinstance(table, dict):
            found = f"found override {override!r}"
            faults.append(Fault("--set", f"{found}; wanted key.path=value, such as optimizer.lr=1"))
        else:
            table[last] = _value(text.strip())
    return changed, faults


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
