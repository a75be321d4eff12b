"""Files and folders that appear whole, by rename, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headrace.errors import OutputError


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, then rename. Raises `OutputError`."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise _output_error(path, error) from None
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):  # renamed, never made, or its folder is a file
            temporary.unlink()


def write_json(path: Path, values: object, indent: int = 2) -> None:
    """Write values as JSON, as `write_file` does. Raises `OutputError`."""
    text = json.dumps(values, indent=indent) + "\n"
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with an empty temporary folder beside `path`, then put it in its place. Raises `OutputError`."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o755)
        write(temporary)
        for file in temporary.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        old = temporary.with_name(temporary.name + ".old")
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _output_error(path, error) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{str(path)!r} cannot be written: {error}", "Free some space, or choose another folder with --out"
    )
