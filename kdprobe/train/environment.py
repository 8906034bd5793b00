"""What decides whether bits repeat?  Versions, commit, device and threads, and when it was."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit, device and threads: what decides whether bits repeat."""
    packages = ("torch", "numpy", "kdprobe")
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "git": _commit(Path(__file__).parent),
        "device": _spoken(device),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "cudnn": _cudnn() if device.type == "cuda" else None,
        "repeatable": "no TF32, deterministic cuDNN without benchmarks",
    }


def _cudnn() -> int | None:
    found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's
    return found


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _spoken(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _commit(folder: Path) -> dict[str, Any] | None:
    """The commit of kdprobe's own sources; None where they are not under git."""

    def git(*words: str) -> str:
        call = ("git", "-C", str(folder), *words)
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        dirty = bool(git("status", "--porcelain", "--untracked-files=no", "."))
        return {"sha": git("rev-parse", "HEAD"), "dirty": dirty}
    except (OSError, subprocess.CalledProcessError):
        return None
