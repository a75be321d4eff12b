"""What `headrace serve` says: what is served, where, and how to call it. On standard error, as logs are."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.api.settings import ApiSettings
from headrace.service import ModelCard


class ServeDisplay:
    """Lines for eyes."""

    def __init__(self, address: str, keyed: bool, console: Console | None = None) -> None:
        self._address = address
        self._keyed = keyed
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def starting(self, model: str) -> None:
        """The engine's process begins to load."""
        self._console.print(
            f"starting [bold]{escape(model)}[/] at {self._address}, which answers 503 until it is ready"
        )

    def ready(self, card: ModelCard, settings: ApiSettings) -> None:
        """The first request may come."""
        table = Table.grid(padding=(0, 2))
        height, width = card.default_size
        key = "Authorization: Bearer KEY" if self._keyed else "none is asked for"
        table.add_row("model", f"[bold]{escape(card.name)}[/], {escape(card.family)}, {card.dtype} on {card.device}")
        table.add_row("pictures", f"{width}x{height}, {card.default_steps} steps of {card.default_solver} by default")
        table.add_row("page", self._address)
        table.add_row("API", f"{self._address}/v1  (documented in /openapi.json)")
        table.add_row("key", key)
        for one in card.accelerations:
            mark = ", by default" if one.name == card.default_acceleration else ""
            faster = f", {one.speedup:.2f} times as fast" if one.speedup else ""
            table.add_row("acceleration", f"[bold]{escape(one.name)}[/]: {escape(one.techniques)}{faster}{mark}")
        if settings.quality:
            table.add_row("quality", escape(", ".join(f"{tier}: {name}" for tier, name in settings.quality.items())))
        self._console.print(f"[bold green]ready[/] {self._address}")
        self._console.print(table)
        self._console.print(f"[dim]{escape(self._example(card))}[/]")

    def ended(self, drained: bool | None) -> None:
        """After a signal."""
        said = {True: "all that was accepted is done", False: "the rest was failed", None: "it was told to"}
        self._console.print(f"ended: {said[drained]}")

    def _example(self, card: ModelCard) -> str:
        asked = {"prompt": '{"prompt": "red apple"}', "class": '{"class_label": 0}'}.get(card.conditioning or "", "{}")
        key = " -H 'Authorization: Bearer KEY'" if self._keyed else ""
        return f"curl {self._address}/v1/images/generations{key} -H 'Content-Type: application/json' -d '{asked}'"
