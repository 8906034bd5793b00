"""The command line: parses, calls, prints. stdout is data, stderr is talk.

Nothing heavy is imported here: each verb loads what it needs.
"""

import signal
import sys
from pathlib import Path
from typing import Any

import click

from kdprobe.errors import GATE_FAILED, PARTIAL, UsageError

quiet = click.option("-q", "--quiet", is_flag=True, help="No progress; only results and errors.")
log_to = click.option(
    "--log-to",
    type=click.Choice(["mlflow", "wandb", "tensorboard"]),
    help="Also log numbers and files there, offline (extra).",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kdprobe", prog_name="kdprobe")
def cli() -> None:
    """What did the student really learn from the teacher?

    kdprobe looks into distilled networks, measures what they kept of the teacher's knowledge,
    judges the hypotheses of the literature, and writes a report.
    """


@cli.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Default: reports/<study's name>.")
@click.option("--metrics", help="Comma-separated; default: all. See 'list metrics'.")
@click.option("--layers", help="Comma-separated taps or module paths for concepts.")
@click.option("--images", default=128, show_default=True, help="Sample size for concepts.")
@click.option(
    "--estimator",
    type=click.Choice(["jacobian", "fit", "paper"]),
    help="Of concepts: closed form (default), converged fit, or the paper's procedure.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", default=0, show_default=True, help="Of the sample and all random draws.")
@click.option("--set", "changes", multiple=True, metavar="METRIC.SETTING=VALUE")
@click.option("--allow-code", multiple=True, metavar="MODULE", help="Let the manifest run it.")
@click.option("--dry-run", is_flag=True, help="Print the plan and what is already done; stop.")
@log_to
@quiet
@as_json
def analyze(
    study: Path,
    out: Path | None,
    metrics: str | None,
    layers: str | None,
    changes: tuple[str, ...],
    allow_code: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Measure a study of checkpoints, judge it, and write the report.

    Stopped at any moment and started again, it goes on where it was.
    """
    from kdprobe.commands import analyze as run

    ended = run.analyze(
        study,
        out,
        metrics=_names("--metrics", metrics),
        layers=_names("--layers", layers),
        settings=run.parsed_settings(changes),
        allow_code=allow_code,
        dry_run=dry_run,
        quiet=quiet,
        as_json=as_json,
        **choices,
    )
    sys.exit(PARTIAL if ended.partial else 0)


@cli.command()
@click.argument("recipe")
@click.option("--out", type=click.Path(path_type=Path), help="Default: checkpoints/<name>.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--dry-run", is_flag=True, help="Print runs, steps, time, memory and disk; train nothing."
)
@click.option("--tensorboard", is_flag=True, help="Write the numbers for TensorBoard too (extra).")
@quiet
@as_json
def train(
    recipe: str,
    out: Path | None,
    overrides: tuple[str, ...],
    device: str,
    dry_run: bool,
    tensorboard: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train the study of RECIPE: a packaged recipe's name, or a TOML file.

    Stopped at any moment and started again, it ends with the same weights. Under torchrun, all
    processes train as one.
    """
    from kdprobe.commands import train as run

    if dry_run:
        run.dry_run(recipe, out, overrides=overrides, device=device, as_json=as_json)
    else:
        run.train(
            recipe,
            out,
            overrides=overrides,
            device=device,
            tensorboard=tensorboard,
            quiet=quiet,
            as_json=as_json,
        )


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--require",
    help="Comma-separated claims that must hold against the baseline, e.g. H1,H3; "
    "H1+controls: against every control as well.",
)
@as_json
def verify(folder: Path, require: str | None, as_json: bool) -> None:
    """Judge the hypotheses on a results.json, or the folder that holds one.

    Exits 1 when a required claim is not supported for every student arm and layer. A requirement
    is about the verdict against the baseline; H1+controls demands support against all controls
    too, and that the study has one.
    """
    from kdprobe.commands.verify import verify as run

    sys.exit(0 if run(folder, _names("--require", require), as_json=as_json) else GATE_FAILED)


@cli.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Default: beside results.json.")
@click.option("--html/--no-html", default=True, show_default=True)
@click.option("--pdf/--no-pdf", default=True, show_default=True)
@log_to
def report(results: Path, out: Path | None, html: bool, pdf: bool, log_to: str | None) -> None:
    """Write the report again from a results.json. No network is run."""
    from kdprobe.commands.report import report as run

    run(results, out, html=html, pdf=pdf, log_to=log_to)


@cli.command()
@click.argument("results", nargs=-1, required=True)
@click.option(
    "--baseline", help="Of the sides. Default: the first; of one study's arms, baselines."
)
@click.option("--by", type=click.Choice(["study", "arm", "run"]), help="What the sides are.")
@click.option("--runs", help="Comma-separated: only these, one against another.")
@click.option("--fail-if", "rules", multiple=True, metavar="RULE", help="Exit 1 where it holds.")
@click.option("--confident", is_flag=True, help="A rule must hold over the whole 95% interval.")
@click.option("--list", "list_", is_flag=True, help="Print the quantities that rules may name.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: reports/compare-<names>.")
@click.option("--html/--no-html", default=True, show_default=True)
@quiet
@as_json
def compare(
    results: tuple[str, ...], runs: str | None, list_: bool, as_json: bool, **choices: Any
) -> None:
    """Set RESULTS side by side: studies, or the arms or runs of one.

    RESULTS are results.json files or the folders that hold them, each with a name if wanted:
    old=reports/a new=reports/b. A rule of --fail-if is read and judged wherever it applies:
    'rho[layer=logits] < baseline - 0.05', 'accuracy[arm=kd] < 0.8 or trace > 2 * baseline'.
    """
    from kdprobe.commands import compare as run

    chosen = _names("--runs", runs)
    if list_ and choices["rules"]:
        raise UsageError("found --list beside --fail-if; wanted one: --list judges no rule")
    if list_:
        run.show_quantities(results, by=choices["by"], runs=chosen, as_json=as_json)
    elif not run.compare(results, runs=chosen, as_json=as_json, **choices):
        sys.exit(GATE_FAILED)


@cli.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("explain.png"))
@click.option("--layers", help="Comma-separated taps or module paths; default: the logits.")
@click.option("--runs", help="Comma-separated ids; default: every network.")
@click.option("--b", default=1.0, show_default=True, help="Threshold of framed concepts, nats.")
@click.option("--estimator", type=click.Choice(["jacobian", "fit", "paper"]))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@click.option("--set", "changes", multiple=True, metavar="METRIC.SETTING=VALUE")
@click.option("--allow-code", multiple=True, metavar="MODULE", help="Let the manifest run it.")
def explain(
    study: Path,
    images: tuple[str, ...],
    out: Path,
    layers: str | None,
    runs: str | None,
    changes: tuple[str, ...],
    **choices: Any,
) -> None:
    """Draw what every network keeps of chosen IMAGES, side by side.

    IMAGES are places in the test split (0, 1, ...), or picture files of the data's size. The ending
    of --out says the format: .png, .svg or .pdf.

    Every image is compared with its own background, so its map does not depend on the images beside
    it. A picture file has no object mask: all of it is background.
    """
    from kdprobe.commands.analyze import parsed_settings
    from kdprobe.commands.explain import explain as run

    run(
        study,
        images,
        out,
        layers=_names("--layers", layers),
        runs=_names("--runs", runs),
        settings=parsed_settings(changes),
        **choices,
    )


@cli.command()
@click.argument("expression", required=False)
@click.option("--loss", "own", metavar="MODULE:FUNCTION", help="A loss of your own, instead.")
@click.option("--allow-code", multiple=True, metavar="MODULE", help="Let it be run.")
@click.option("--classes", default=100, show_default=True, help="Of random logits.")
@click.option("--batch", default=64, show_default=True, help="Images a draw.")
@click.option("--draws", default=8, show_default=True, help="Of logits, or of a study's images.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--temperature", type=float, help="Of the soft part; default: as fits best.")
@click.option("--study", type=click.Path(path_type=Path), help="Take its networks' logits instead.")
@click.option("--run", default="", help="The student in that study; default: its first.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@as_json
def audit(expression: str | None, own: str | None, **choices: Any) -> None:
    """Say what a loss asks for: how much is cross-entropy, smoothing, distillation, and its scale.

    EXPRESSION is a sum of weighted losses as in a recipe: "0.1*cross_entropy + 0.9*kd(T=4)". Its
    gradient in the logits is written as c * [(1 - w) * CE + w * H(u, p)].
    """
    from kdprobe.commands.audit import audit as run

    run(expression, own, **choices)


@cli.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--allow-code", multiple=True, metavar="MODULE", help="Let the manifest run it.")
@as_json
def inspect(study: Path, allow_code: tuple[str, ...], as_json: bool) -> None:
    """Show a study's runs, epochs, sizes and layers."""
    from kdprobe.commands.inspect import inspect as run

    run(study, allow_code, as_json=as_json)


@cli.command("list")
@click.argument(
    "what",
    type=click.Choice(
        [
            "metrics",
            "losses",
            "schedules",
            "datasets",
            "models",
            "transforms",
            "techniques",
            "corruptions",
            "augmentations",
            "recipes",
            "claims",
        ]
    ),
)
@as_json
def list_(what: str, as_json: bool) -> None:
    """List what kdprobe knows."""
    from kdprobe.commands.catalogues import show

    show(what, as_json=as_json)


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"))
@as_json
def doctor(out: Path, as_json: bool) -> None:
    """Check versions, devices, fonts and whether the output folder can be written."""
    from kdprobe.commands.doctor import doctor as run

    sys.exit(0 if run(out, as_json=as_json) else GATE_FAILED)


def _names(option: str, text: str | None) -> tuple[str, ...]:
    """The names of a comma-separated option; nothing where it is not given."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if text is not None and not names:
        raise UsageError(f"found {option} without a name; wanted some, separated by commas")
    return names


def main() -> None:
    """Run the command line and end with one of the documented exit codes."""
    from kdprobe.commands.ending import ended

    if hasattr(signal, "SIGPIPE"):  # `kdprobe verify ... | head -1` ends as others do, not with 1
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(ended(cli))


if __name__ == "__main__":
    main()
