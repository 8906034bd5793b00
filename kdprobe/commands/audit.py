"""`kdprobe audit`: what a loss asks of the logits, as a table, a sentence and what to mind."""

from dataclasses import asdict
from typing import Any

import click

from kdprobe.auditing import audit as audited
from kdprobe.commands.tables import print_json, print_table
from kdprobe.errors import UsageError
from kdprobe.train.asked import Audit, Number
from kdprobe.train.pushing import own_loss

COLUMNS = ("form", "scale c", "share w (eps)", "temperature", "explained", "left over")
ROUNDING = 1e-6  # what is smaller is not written


def audit(
    expression: str | None,
    own: str | None,
    *,
    allow_code: tuple[str, ...],
    as_json: bool,
    **choices: Any,
) -> None:
    """Audit an expression, or the loss of the user's factory `own`."""
    if (expression is None) == (own is None):
        raise UsageError(
            "wanted one loss: an expression such as '0.1*cross_entropy + 0.9*kd(T=4)', or "
            "--loss module:function"
        )
    loss = expression if own is None else own_loss(own, allow_code)
    found = audited(loss or "", allow_code=allow_code, **choices)
    if as_json:
        print_json(_plain(found))
        return
    title = f"{own or found.loss}: {found.source}, {found.draws} × {found.batch} images, "
    print_table(title + f"{found.classes} classes", COLUMNS, _rows(found))
    click.echo(found.sentence)
    for note in found.notes:
        click.echo(f"note: {note}")


def _plain(found: Audit) -> dict[str, Any]:
    fits = [asdict(fit) | {"cosine": fit.cosine} for fit in found.fits]
    told = {"nearest": found.nearest.form, "sentence": found.sentence, "notes": found.notes}
    return asdict(found) | {"fits": fits} | told


def _rows(found: Audit) -> list[tuple[str, ...]]:
    return [
        (fit.form, _told(fit.scale), _told(fit.share), _told(fit.temperature))
        + (f"{100 * fit.explained:.4f}%", f"{100 * (fit.residual.value or 0.0):.3g}%")
        for fit in found.fits
    ]


def _told(number: Number) -> str:
    if number.value is None:
        return "–"
    value = number.value if abs(number.value) > ROUNDING else 0.0
    error = number.error or 0.0
    return f"{value:.4g}" + (f" ± {error:.1g}" if error > ROUNDING else "")
