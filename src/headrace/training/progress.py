"""What a person sees while training: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

_SECONDS_BETWEEN_LINES = 30.0


class Display:
    """Shows the step, the loss, images a second and the time left. Silent when not `shown`."""

    def __init__(self, name: str, steps: int, shown: bool = True) -> None:
        self.steps = steps
        self.console = Console(stderr=True, quiet=not shown, highlight=False)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self.name = name
        self.task = self.bar.add_task(name, total=1.0, text="")
        self._began, self._first = time.monotonic(), 0.0
        self._line_after = 0.0

    def begin(self, fraction: float) -> None:
        """Training starts, or goes on, with `fraction` of the whole done: the time left is judged from here."""
        self._began, self._first = time.monotonic(), fraction

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, step: int, loss: float, fraction: float, images_per_second: float) -> None:
        """Report the state after `step` steps, `fraction` of the whole."""
        now = time.monotonic()
        done = fraction - self._first
        left = _clock((now - self._began) / done * (1 - fraction)) if done > 0 else "?"
        text = f"step {step}/{self.steps}  loss {loss:.4g}  {images_per_second:.1f} images/s  {left} left"
        self.bar.update(self.task, completed=fraction, text=text)
        if not self.console.is_terminal and now >= self._line_after:
            self._line_after = now + _SECONDS_BETWEEN_LINES
            self.say(text)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(f"{self.name}: {line}", markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
