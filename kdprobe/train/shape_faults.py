"""Which keys of a recipe are missing, unknown or ill-typed?  pydantic's errors, in our words."""

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kdprobe.registry import did_you_mean
from kdprobe.train.raw import Fault, listed
from kdprobe.train.settings import Recipe


def shape_faults(error: ValidationError) -> list[Fault]:
    """Missing, unknown and ill-typed keys."""
    return [Fault(".".join(map(str, e["loc"])), _worded(e)) for e in error.errors()]


def _worded(error: ErrorDetails) -> str:
    *folder, key = error["loc"]
    if error["type"] == "missing":
        return "found nothing; wanted a value for this key"
    if error["type"] == "extra_forbidden":
        known = _known_keys(folder)
        return f"found an unknown key; wanted {listed(known)}{did_you_mean(str(key), known)}"
    wanted = error["msg"].replace("Input should", "").replace("be ", "", 1).strip()
    choices = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
    hint = did_you_mean(str(error["input"]), choices)
    return f"found {error['input']!r}; wanted {wanted}{hint}"


def _known_keys(folder: list[int | str]) -> list[str]:
    """The keys of the table at `folder`; names of arms are skipped on the way."""
    table: type[BaseModel] = Recipe
    for part in folder:
        if part in table.model_fields:
            table = _table_in(table.model_fields[str(part)].annotation) or table
    return list(table.model_fields)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_in, get_args(annotation))), None)
