"""The `headrace` command: one file a command, each importing what is heavy only when it runs."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. A `HeadraceError` becomes one line on standard error and exit status 1."""
    from rich.console import Console
    from rich.markup import escape

    from headrace.cli.app import app
    from headrace.errors import HeadraceError

    # Unless asked for, transformers' advice on import (other packages to install) is not for a user of this command.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app()
    except HeadraceError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("[bold red]stopped[/] by the keyboard")
        sys.exit(130)
