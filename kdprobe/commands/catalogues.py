"""`kdprobe list`: what is in the catalogues."""

from kdprobe.commands.tables import print_json, print_table

Row = tuple[str, str, str]


def show(what: str, *, as_json: bool) -> None:
    """Print one catalogue: keys, what they are, and where they come from."""
    rows = ROOMS[what]()
    if as_json:
        print_json([{"name": name, "what": told, "source": source} for name, told, source in rows])
    else:
        print_table(what.capitalize(), ("name", "what", "source"), rows)


def _metrics() -> list[Row]:
    from kdprobe.metrics.contract import METRICS

    entries = sorted(METRICS.values(), key=lambda entry: entry.place)
    return [
        (entry.key, _with_settings(entry.question, entry.settings), entry.source)
        for entry in entries
    ]


def _with_settings(question: str, settings: dict[str, object]) -> str:
    listed = ", ".join(f"{name}={value}" for name, value in settings.items())
    return f"{question} [{listed}]" if listed else question


def _losses() -> list[Row]:
    from kdprobe.train.losses.contract import LOSSES

    return [(entry.key, entry.title, entry.source) for entry in LOSSES.values()]


def _datasets() -> list[Row]:
    from kdprobe.datasets.contract import DATASETS

    return [
        (e.key, f"{e.title} ({'with' if e.has_masks else 'no'} object masks)", e.source)
        for e in DATASETS.values()
    ]


def _models() -> list[Row]:
    from kdprobe.models.contract import FAMILIES

    return [(e.key, e.summary, f"e.g. {', '.join(e.examples)}") for e in FAMILIES.values()]


def _recipes() -> list[Row]:
    from kdprobe.train.recipe import load_recipe, packaged_recipes

    found = []
    for name in packaged_recipes():
        recipe = load_recipe(name)
        arms = ", ".join(recipe.arms)
        found.append(
            (name, f"{recipe.data.name}; arms {arms}; {len(recipe.seeds)} seeds", "packaged")
        )
    return found


def _claims() -> list[Row]:
    from kdprobe.claims.contract import CLAIMS

    return [(", ".join(entry.names), entry.title, entry.source) for entry in CLAIMS.values()]


ROOMS = {
    "metrics": _metrics,
    "losses": _losses,
    "datasets": _datasets,
    "models": _models,
    "recipes": _recipes,
    "claims": _claims,
}
