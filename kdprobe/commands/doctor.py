"""`kdprobe doctor`: is everything here that an analysis needs?  Asks no network."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kdprobe.commands.tables import print_json, print_table
from kdprobe.errors import OutputError
from kdprobe.files import write_whole

PACKAGES = (
    "kdprobe",
    "torch",
    "captum",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "seaborn",
    "plotly",
    "typst",
    "safetensors",
    "pydantic",
)

Check = tuple[str, str, bool]


def doctor(out: Path, *, as_json: bool) -> bool:
    """Print what was found; True when nothing is missing."""
    checks = [("python", platform.python_version(), True), *_versions(), *_devices()]
    checks += [_fonts(), _writable(out)]
    if as_json:
        print_json([{"what": what, "found": found, "ok": ok} for what, found, ok in checks])
    else:
        rows = [(what, found, "ok" if ok else "MISSING") for what, found, ok in checks]
        print_table("kdprobe doctor", ("what", "found", ""), rows)
    return all(ok for _, _, ok in checks)


def _versions() -> list[Check]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, version(name), True))
        except PackageNotFoundError:
            found.append((name, f"not installed; pip install {name}", False))
    return found


def _devices() -> list[Check]:
    import torch

    found = [("cpu", f"{torch.get_num_threads()} threads", True)]
    for index in range(torch.cuda.device_count()):
        found.append((f"cuda:{index}", torch.cuda.get_device_name(index), True))
    return found


def _fonts() -> Check:
    from kdprobe.report.typesetting import font_folder

    folder = font_folder()
    count = len(list(folder.glob("*.ttf")))
    return ("fonts for the PDF", f"{count} in matplotlib's folder", count > 0)


def _writable(out: Path) -> Check:
    probe = out / ".kdprobe-doctor"
    try:
        write_whole(probe, b"")
        probe.unlink()
    except (OutputError, OSError) as error:
        return (f"write to {out}", str(error), False)
    return (f"write to {out}", "yes", True)
