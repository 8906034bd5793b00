"""`kdprobe inspect`: who is in a study, and which layers can be looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kdprobe.commands.tables import print_json, print_table
from kdprobe.loading import build, parameter_changes
from kdprobe.study import Run, load_study
from kdprobe.taps import named_taps


def inspect(folder: Path, allow_code: Sequence[str], *, as_json: bool) -> None:
    """Print a study's runs and their layers. Reads no weights."""
    study = load_study(folder)
    runs = [_described(run, allow_code) for run in study.runs]
    if as_json:
        print_json({"name": study.name, "data": study.data.model_dump(mode="json"), "runs": runs})
        return
    columns = ("run", "role", "arm", "seed", "model", "parameters", "changed", "epochs", "kB")
    keys = ("id", "role", "arm", "seed", "model", "parameters", "parameter_changes", "epochs")
    data = study.data.name or study.data.factory
    title = f"{study.name}, on {data}"
    print_table(
        title, columns, [[_shown(run[key]) for key in (*keys, "kilobytes")] for run in runs]
    )
    layers: dict[tuple[str, ...], list[str]] = {tuple(r["taps"]): r["modules"] for r in runs}
    for taps, modules in layers.items():
        click.echo(f"layers: {', '.join(taps)}")
        click.echo(f"modules: {', '.join(modules)}")


def _described(run: Run, allow_code: Sequence[str]) -> dict[str, Any]:
    body = build(run.last.network, allow_code).body
    return {
        "id": run.id,
        "role": run.role,
        "arm": run.arm,
        "seed": run.seed,
        "status": run.entry.status,
        "model": run.last.network.label,
        "parameters": sum(p.numel() for p in body.parameters()),
        "parameter_changes": parameter_changes(run.last.network),
        "epochs": list(run.epochs),
        "kilobytes": round(sum(c.path.stat().st_size for c in run.checkpoints) / 1000),
        "taps": list(named_taps(body)),
        "modules": [name for name, _ in body.named_modules() if name],
    }


def _shown(value: object) -> object:
    if isinstance(value, dict):  # of the parameters, by transforms
        return ", ".join(f"{change:+,} by {name}" for name, change in value.items()) or "-"
    return " ".join(map(str, value)) if isinstance(value, list) else value
