"""Whose folder is this?  It belongs to one recipe, and goes on with no other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdprobe.errors import InputError
from kdprobe.train.records import read_record
from kdprobe.train.settings import Recipe
from kdprobe.train.writing import write_json

FREE = {"at_once": None}  # changes no bit: who goes on may choose another


def claim(folder: Path, recipe: Recipe) -> None:
    """Make `folder` the place of this recipe.

    Raises:
        InputError: it holds a study of another recipe, or one that was not trained here.
        OutputError: it cannot be written.
    """
    wanted = recipe.model_dump(mode="json")
    file = folder / "recipe.json"
    if file.is_file():
        ours, theirs = ({**one, **FREE} for one in (completed(read_record(file)), wanted))
        if ours != theirs:
            raise InputError(
                f"found a study of another recipe in {folder} ({_difference(ours, theirs)}); "
                "wanted the same recipe to go on with; choose another folder with --out, "
                "or delete this one"
            )
    elif any((folder / name).exists() for name in ("study.json", "study.toml")):
        raise InputError(
            f"found a study without recipe.json in {folder}; wanted an empty folder; "
            "choose another one with --out"
        )
    else:
        write_json(file, wanted)


def completed(found: dict[str, Any]) -> dict[str, Any]:
    """A recipe that an older version wrote, with what it did then spelled out."""
    data = {"validation": 0.0, **found.get("data", {})}
    try:
        known = Recipe.model_validate_json(json.dumps({**found, "data": data}))
    except ValueError:
        return found
    return known.model_dump(mode="json")


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    ours, theirs = _flat(found), _flat(wanted)
    keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    told_first = [f"{key}: found {ours.get(key)!r}, wanted {theirs.get(key)!r}" for key in keys[:3]]
    return "; ".join(told_first) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        found |= inner or {f"{prefix}{key}": value}
    return found
