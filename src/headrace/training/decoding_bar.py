"""What a person sees while pictures are read and decoded: a bar on a terminal, once it has taken a while."""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_SECONDS_BEFORE = 1.0
_SECONDS_BETWEEN = 0.2
_NAMED = 5


class DecodingBar:
    """Counts `total` pictures (at most so many) of the set `name`; shows pictures a second and the time left."""

    def __init__(self, name: str, total: int) -> None:
        console = _console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} pictures/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )
        self._name, self._total = name, total
        self._task: TaskID | None = None
        self._count = 0
        self._began = time.monotonic()
        self._next = self._began + _SECONDS_BEFORE

    def __enter__(self) -> DecodingBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._show(time.monotonic())
            self._bar.stop()

    def advance(self) -> None:
        """One picture more."""
        self._count += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SECONDS_BETWEEN
            self._show(now)

    def _show(self, now: float) -> None:
        if self._task is None:
            self._task = self._bar.add_task(self._name, total=self._total, rate=0.0)
            self._bar.start()
        self._bar.update(self._task, completed=self._count, rate=self._count / max(now - self._began, 1e-9))


def tell_skipped(name: str, skipped: tuple[str, ...], kept: int) -> None:
    """A few lines on standard error that count and name what could not be decoded; nothing where all could."""
    if skipped:
        console = _console()
        console.print(f"{name}: {len(skipped)} of {len(skipped) + kept} pictures skipped", markup=False)
        for problem in skipped[:_NAMED]:
            console.print(f"  {problem}", markup=False)
        if len(skipped) > _NAMED:
            console.print(f"  and {len(skipped) - _NAMED} more", markup=False)


def _console() -> Console:
    """Of several processes on one data set, the first alone speaks (accelerate's launcher numbers them)."""
    return Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0", highlight=False, soft_wrap=True)
