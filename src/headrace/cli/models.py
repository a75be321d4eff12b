"""`headrace models`: what there is to generate with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.errors import HeadraceError, ModelNotFoundError


def models(
    folder: Annotated[
        Path | None, typer.Option("--dir", envvar="HEADRACE_MODELS", help="folder that holds diffusers model folders")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list on standard output")] = False,
) -> None:
    """List the embedded models and the ones in a folder of yours. Nothing is loaded."""
    from headrace.models.pipelines.folder import embedded_models

    if folder is not None and not folder.is_dir():
        raise ModelNotFoundError(f"{str(folder)!r} is not a folder", "Give one with --dir or HEADRACE_MODELS")
    found = [(name, path, True) for name, path in embedded_models().items()]
    if folder is not None:
        local = [folder] if (folder / "model_index.json").is_file() else sorted(folder.iterdir())
        found += [(path.name, path, False) for path in local if (path / "model_index.json").is_file()]
    listing = [describe(name, path, embedded) for name, path, embedded in found]
    if as_json:
        typer.echo(json.dumps(listing, indent=2))
    else:
        _print(listing)


def describe(name: str, path: Path, embedded: bool) -> dict[str, Any]:
    """One model's row; a broken or unsupported one has `error` in place of what could not be read."""
    from headrace.cli import model_files
    from headrace.models.pipelines.folder import inspect
    from headrace.models.pipelines.loading import FAMILIES

    row: dict[str, Any] = {"name": name, "path": str(path), "embedded": embedded, "error": None}
    try:
        folder = inspect(path)
        family = FAMILIES.get(folder.class_name)
        row |= {
            "family": family.family if family else folder.class_name,
            "default_size": model_files.default_size(folder),
            "solver": model_files.solver(folder),
            "parameters": model_files.parameters(folder),
            "bytes": model_files.size_on_disk(path),
        }
        if family is None:
            row["error"] = f"{folder.class_name} is a family that Headrace has no adapter for"
    except HeadraceError as error:
        row["error"] = str(error)
    except (OSError, ValueError, TypeError) as error:
        row["error"] = f"its files cannot be read: {error}"
    return row


def _print(listing: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not listing:
        console.print("no models; name a folder with --dir or HEADRACE_MODELS")
        return
    good = [row for row in listing if not row["error"]]
    table = Table("model", "family", "size", "solver", "params", "disk", "where", box=None, padding=(0, 1, 0, 0))
    # Names are typed off the list, so they stay whole.
    table.columns[0].min_width = max((len(row["name"]) for row in good), default=0)
    table.columns[-1].min_width, table.columns[-1].overflow = len("embedded"), "fold"
    for row in good:
        height, width = row["default_size"] or ("?", "?")
        table.add_row(
            row["name"], row["family"], f"{width}x{height}", row["solver"].removesuffix("Scheduler"),
            f"{row['parameters'] / 1e6:,.1f}M", f"{row['bytes'] / 2**20:,.1f} MiB",
            "embedded" if row["embedded"] else row["path"],
        )  # fmt: skip
    console.print(table)
    for row in listing:
        if row["error"]:
            console.print(
                f"[red]{escape(row['name'])}[/]: {escape(row['error'])} ({escape(row['path'])})", highlight=False
            )
