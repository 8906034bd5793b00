"""What of the curvature is less precise than was asked for?  One remark of a kind for a study."""

from collections.abc import Mapping

from kdprobe.metrics.contract import Array
from kdprobe.metrics.curvature_page import Bend


def unsettled(bends: Mapping[str, Bend], tolerance: float, steps: int) -> list[str]:
    """Eigenvalues with wide bounds; `steps` is how many of Lanczos were allowed."""
    wide = {run: bend for run, bend in bends.items() if not bend.settled(tolerance)}
    if not wide:
        return []
    worst = max(wide, key=lambda run: _width(bends[run]))
    bend = bends[worst]
    return [
        f"the largest eigenvalues of {len(wide)} of {len(bends)} networks are not settled (worst "
        f"{worst!r}, after {bend.steps} steps: bounds of {_list(bend.bounds)} on "
        f"{_list(bend.eigenvalues)}): {_remedy(wide, steps)}"
    ]


def _remedy(bends: Mapping[str, Bend], steps: int) -> str:
    """Lanczos that ends before its last step was out of memory, or of directions."""
    stopped = [bend.steps for bend in bends.values() if bend.steps < steps]
    more = "raise curvature.steps" if len(stopped) < len(bends) else ""
    fewer = (
        f"memory or rounding allows no more than {min(stopped)} of {steps} steps"
        f"{f' for {len(stopped)} of them' if more else ''}: lower curvature.top, raise "
        "curvature.tolerance, or analyse on a GPU of more memory"
        if stopped
        else ""
    )
    return "; ".join(filter(None, (more, fewer)))


def rough(bends: Mapping[str, Bend], tolerance: float) -> list[str]:
    """Traces with wide errors, after as many draws as were allowed."""
    wide = {run: b for run, b in bends.items() if b.trace_error > tolerance * abs(b.trace)}
    if not wide:
        return []
    worst = max(wide, key=lambda run: _share(bends[run].trace_error, bends[run].trace))
    bend = bends[worst]
    return [
        f"the traces of {len(wide)} of {len(bends)} networks have standard errors above "
        f"{100 * tolerance:g}% of them (worst {worst!r}: {bend.trace:.4g} ± {bend.trace_error:.2g} "
        f"after {bend.draws} draws); raise curvature.draws"
    ]


def _width(bend: Bend) -> float:
    """The widest bound, of its eigenvalue."""
    return max(map(_share, bend.bounds.tolist(), bend.eigenvalues.tolist()))


def _share(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / abs(whole) if whole else float("inf")


def _list(values: Array) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
