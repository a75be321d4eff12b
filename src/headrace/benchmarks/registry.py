"""Finds benchmarks by name: every module of this package that has a `run(options, console) -> figures`."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

import headrace.benchmarks as package
from headrace.errors import HeadraceError


@dataclass(frozen=True)
class BenchOptions:
    """What the command line gives every benchmark; each uses what concerns it.

    `quick` ends within 60 seconds on two cores; `out` is a folder for plots and tables, or None for none. `url` is a
    server to measure in place of one's own, `api_key_env` the name of the environment variable that holds its key.
    """

    quick: bool = False
    model: str = "emoji"
    device: str = "cpu"
    data: Path | None = None
    out: Path | None = None
    url: str | None = None
    api_key_env: str | None = None


Benchmark = Callable[[BenchOptions, Console], Mapping[str, object]]
_NOT_BENCHMARKS = {"registry"}


def benchmarks() -> dict[str, str]:
    """Name -> first line of the module's docstring, read without importing it. A leading `_` marks helpers."""
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("_") or module.name in _NOT_BENCHMARKS:
            continue
        spec = importlib.util.find_spec(f"{package.__name__}.{module.name}")
        if spec is None or spec.origin is None:
            continue
        docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        found[module.name] = docstring.splitlines()[0] if docstring else ""
    return found


def load_benchmark(name: str) -> Benchmark:
    """The `run` of the benchmark with this name, hyphens or underscores. Raises `HeadraceError` for an unknown one."""
    known, wanted = benchmarks(), name.replace("-", "_")
    if wanted not in known:
        raise HeadraceError(f"there is no benchmark {name!r}", f"Known: {', '.join(sorted(known))}")
    module = importlib.import_module(f"{package.__name__}.{wanted}")
    run: Benchmark = module.run
    return run
