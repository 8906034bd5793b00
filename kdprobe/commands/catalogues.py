"""`kdprobe list`: what is in the catalogues."""

from collections.abc import Callable
from importlib import resources
from inspect import Parameter, signature
from itertools import takewhile

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

    return [
        (e.key, _with_settings(f"{e.title}.", _knobs(e.make)), e.source) for e in LOSSES.values()
    ]


def _datasets() -> list[Row]:
    from kdprobe.datasets.contract import DATASETS

    rows = []
    for e in DATASETS.values():
        masks = "with object masks" if e.has_masks else "no object masks"
        told = "out of your files: folder=" if e.needs_files else masks
        rows.append((e.key, f"{e.title} ({told})", e.source))
    return rows


def _models() -> list[Row]:
    from kdprobe.models.contract import FAMILIES

    return [
        (e.key, e.summary, f"e.g. {', '.join(map(_with_size, e.examples))}")
        for e in FAMILIES.values()
    ]


def _with_size(name: str) -> str:
    """A network's name and its parameters at 100 classes."""
    from kdprobe.models.fingerprint import registered

    known = registered(name)
    return f"{name} ({known.parameters / 1e6:.3f} M)" if known else name


def _corruptions() -> list[Row]:
    from kdprobe.train.corruptions.contract import CORRUPTIONS

    return [
        (e.key, _with_settings(f"{e.title}.", _knobs(e.take)), e.source)
        for e in CORRUPTIONS.values()
    ]


def _augmentations() -> list[Row]:
    from kdprobe.train.augmentations.contract import AUGMENTATIONS

    return [
        (e.key, _with_settings(f"{e.title}.", _knobs(e.view)), e.source)
        for e in AUGMENTATIONS.values()
    ]


def _schedules() -> list[Row]:
    from kdprobe.train.schedules import SCHEDULES

    return [
        (name, _with_settings(_first_line(share), _knobs(share)), "loss@schedule(...)")
        for name, share in SCHEDULES.items()
    ]


def _first_line(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").splitlines()[0]


def _transforms() -> list[Row]:
    from kdprobe.models.transforms.contract import TRANSFORMS

    return [
        (e.key, _with_settings(f"{e.title}.", _knobs(e.change)), e.source)
        for e in TRANSFORMS.values()
    ]


def _techniques() -> list[Row]:
    from kdprobe.train.techniques.contract import TECHNIQUES

    return [
        (e.key, _with_settings(f"{e.title}.", _knobs(e.make)), e.source)
        for e in TECHNIQUES.values()
    ]


def _knobs(function: Callable[..., object]) -> dict[str, object]:
    """The keyword-only arguments of `function`, and their defaults; "!" = none, one is wanted."""
    arguments = signature(function).parameters.values()
    found = {one.name: one.default for one in arguments if one.kind is one.KEYWORD_ONLY}
    return {name: "!" if value is Parameter.empty else value for name, value in found.items()}


def _recipes() -> list[Row]:
    from kdprobe.train.recipe import load_recipes, packaged_recipes

    found = []
    for name in packaged_recipes():
        studies = load_recipes(name)
        one = next(iter(studies.values()))
        arms = "; ".join(dict.fromkeys(", ".join(study.arms) for study in studies.values()))
        sweep = f"studies {', '.join(studies)}; " if len(studies) > 1 else ""
        told = f"{_opening(name)} [{one.data.name}; {sweep}arms {arms}; {len(one.seeds)} seeds]"
        found.append((name, told, "packaged"))
    return found


def _opening(recipe: str) -> str:
    """The first paragraph of the comment that a packaged recipe begins with."""
    file = resources.files("kdprobe.train").joinpath("recipes", f"{recipe}.toml")
    lines = file.read_text(encoding="utf-8").splitlines()
    return " ".join(line[2:] for line in takewhile(lambda line: line.startswith("# "), lines))


def _claims() -> list[Row]:
    from kdprobe.claims.contract import CLAIMS

    return [(", ".join(entry.names), entry.title, entry.source) for entry in CLAIMS.values()]


ROOMS = {
    "metrics": _metrics,
    "losses": _losses,
    "schedules": _schedules,
    "datasets": _datasets,
    "models": _models,
    "transforms": _transforms,
    "techniques": _techniques,
    "corruptions": _corruptions,
    "augmentations": _augmentations,
    "recipes": _recipes,
    "claims": _claims,
}
