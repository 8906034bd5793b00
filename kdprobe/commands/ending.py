"""How does a command end?  With one of the documented exit codes, and a sentence on stderr."""

import errno
from collections.abc import Callable
from typing import Any

import click

from kdprobe.errors import INPUT, INTERNAL, INTERRUPTED, KdprobeError

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def ended(command: Callable[..., Any]) -> int:
    """Run `command`; the exit code that it ends with."""
    try:
        command(standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KdprobeError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: what was finished is kept; the same command goes on", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            return _internal(error)
        click.echo(f"error: cannot write the output ({error.strerror}); free some space", err=True)
        return INPUT
    except Exception as error:
        return _internal(error)
    return 0


def _internal(error: Exception) -> int:
    import traceback

    traceback.print_exception(error)
    click.echo(
        "internal error: this is a fault of kdprobe; please report the lines above", err=True
    )
    return INTERNAL
