"""Where else do results go?  Numbers and files into MLflow, W&B or TensorBoard, without a network.

Nothing of these is imported before it is asked for. What is not offline by itself is told to be:
MLflow writes into ``./mlruns`` unless ``MLFLOW_TRACKING_URI`` is set by whoever runs it, W&B
writes an offline run that ``wandb sync`` can send later.
"""

import os
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from kdprobe.errors import OutputError, UsageError
from kdprobe.report.accuracies import accuracies
from kdprobe.report.naming import apart
from kdprobe.results import Results

LIBRARIES = {
    "mlflow": ("mlflow", "mlflow-skinny"),
    "wandb": ("wandb", "wandb"),
    "tensorboard": ("torch.utils.tensorboard", "tensorboard"),
}
FILES = ("report.html", "report.pdf", "results.json")
UNSAFE = re.compile(r"[^\w./ -]")


def library(name: str) -> Any:
    """The library that logs to `name`, imported now.

    Raises:
        UsageError: it is none of `LIBRARIES`, or is not installed.
    """
    if name not in LIBRARIES:
        raise UsageError(f"found --log-to {name!r}; wanted one of {', '.join(LIBRARIES)}")
    module, package = LIBRARIES[name]
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"--log-to {name} needs the package {package}, which cannot be imported "
            f"({error}); run: pip install {package}"
        ) from error


def log_results(results: Results, folder: Path, name: str) -> None:
    """Log the scalars of `results` and the files of `folder` to the library called `name`.

    Raises:
        UsageError: there is no such library.
        OutputError: it could not log.
    """
    loggers: dict[str, Callable[[Any, Results, Path], None]] = {
        "mlflow": _mlflow,
        "wandb": _wandb,
        "tensorboard": _tensorboard,
    }
    found = library(name)
    try:
        loggers[name](found, results, folder)
    except Exception as error:  # of any kind: the report is whole, and that is what to say
        raise OutputError(
            f"{name} could not log the results ({type(error).__name__}: {error}); "
            f"everything is in {folder}: mend it and run 'kdprobe report {folder} --log-to {name}'"
        ) from error


def scalars(results: Results) -> dict[str, float]:
    """Every headline number by name: accuracies, effects, verdicts counted, numbers of metrics."""
    found = {f"accuracy/{run}": entry.share for run, entry in accuracies(results).items()}
    for verdict in results.verdicts:
        count = f"verdicts/{verdict.outcome}"
        found[count] = found.get(count, 0.0) + 1
        for entry in verdict.estimates:
            if entry.effect is not None:
                parts = ("effect", verdict.claim, verdict.arm, verdict.layer, entry.quantity)
                found["/".join(part for part in parts if part)] = entry.effect
    for metric in results.metrics:
        found |= dict(_numbers(f"metric/{metric.key}", metric.values))
    names = apart([UNSAFE.sub("_", name) for name in found], "_")
    return {name: float(value) for name, value in zip(names, found.values(), strict=True)}


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The numbers below `value` that have a name of their own; lists have none."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(f"{name}/{key}", inner)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


def _written(folder: Path) -> list[Path]:
    tables = sorted((folder / "tables").glob("*")) if (folder / "tables").is_dir() else []
    return [file for file in (*(folder / name for name in FILES), *tables) if file.is_file()]


def _facts(results: Results) -> dict[str, str]:
    """What was analysed, to find the run again."""
    study = results.study
    return {
        "study": study.name,
        "dataset": study.dataset,
        "runs": str(len(study.runs)),
        "kdprobe": results.kdprobe_version,
    }


def _mlflow(mlflow: Any, results: Results, folder: Path) -> None:
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow.set_tracking_uri(Path("mlruns").absolute().as_uri())
    mlflow.set_experiment("kdprobe")
    with mlflow.start_run(run_name=results.study.name or "study"):
        mlflow.log_params(_facts(results))
        mlflow.log_metrics(scalars(results))
        for file in _written(folder):
            below = file.parent.relative_to(folder).as_posix()
            mlflow.log_artifact(str(file), artifact_path=None if below == "." else below)


def _wandb(wandb: Any, results: Results, folder: Path) -> None:
    run = wandb.init(
        project="kdprobe",
        name=results.study.name or "study",
        mode="offline",
        config=_facts(results),
        settings=wandb.Settings(silent=True, console="off", disable_git=True),
    )
    try:
        run.summary.update(scalars(results))
        artifact = wandb.Artifact("kdprobe-report", type="report")
        for file in _written(folder):
            artifact.add_file(str(file), name=file.relative_to(folder).as_posix())
        run.log_artifact(artifact)
    finally:
        run.finish()


def _tensorboard(tensorboard: Any, results: Results, folder: Path) -> None:
    with tensorboard.SummaryWriter(str(folder / "tensorboard")) as writer:
        for name, value in scalars(results).items():
            writer.add_scalar(name, value, 0)
        for name, text in _facts(results).items():
            writer.add_text(name, text, 0)
        for verdict in results.verdicts:
            parts = (verdict.claim, verdict.arm, verdict.layer)
            name = "/".join(("verdict", *(part for part in parts if part)))
            writer.add_text(name, f"{verdict.outcome}: {verdict.reason}", 0)
        writer.add_text("files", "\n\n".join(file.name for file in _written(folder)), 0)
