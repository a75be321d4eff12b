"""The `headrace` command: one file a command, each importing what is heavy only when it runs."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any


def main() -> None:
    """Run the command line. A `HeadraceError` becomes one line on standard error and exit status 1."""
    from rich.console import Console
    from rich.markup import escape

    from headrace.cli.app import app
    from headrace.errors import HeadraceError, HeadraceWarning

    # Unless asked for, transformers' advice on import (other packages to install) is not for a user of this command.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    errors = Console(stderr=True, soft_wrap=True, highlight=False)

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *place: Any, **more: Any
    ) -> None:
        if issubclass(category, HeadraceWarning):
            errors.print(f"[bold yellow]warning:[/] {escape(str(message))}")
        else:
            as_always(message, category, filename, lineno, *place, **more)

    try:
        with warnings.catch_warnings():
            as_always, warnings.showwarning = warnings.showwarning, show
            app()
    except HeadraceError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("[bold red]stopped[/] by the keyboard")
        sys.exit(130)
