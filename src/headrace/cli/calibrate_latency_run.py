"""What `headrace calibrate latency` does: measure rounds, write the table, draw it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from headrace.cli.calibrate_display import calibration_bar
from headrace.cli.evaluate_jobs import needed_field
from headrace.cli.generate import EngineOptions, parse_size
from headrace.cli.pictures import prepare_folder
from headrace.errors import CalibrationError
from headrace.request import Request
from headrace.serving.chunk_choice import check_weight
from headrace.serving.latency_table import Lane, LatencyTable
from headrace.serving.measurement import Design, doubling
from headrace.serving.state import Size

if TYPE_CHECKING:
    from headrace.models.pipelines.base import Pipeline

_LEAST_ROOM = 1 << 20  # bytes
_QUICK_ROWS, _QUICK_DECODINGS, _QUICK_CHUNKS, _QUICK_HELD_OUT = 8, 2, 2, 3
_PROMPT = "red apple"


@dataclass(frozen=True)
class LatencyOptions:
    """What is measured. Raises `CalibrationError` for counts that are none, or an unknown lane."""

    engine: EngineOptions
    sizes: str | None
    max_rows: int
    max_decodings: int
    max_chunks: int
    lane: str
    repeats: int
    quick: bool
    seed: int
    weight: float

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_decodings", "max_chunks", "repeats"):
            value = getattr(self, name)
            if value < 1:
                option = f"--{name.replace('_', '-')}"
                raise CalibrationError(f"{option} {value} is not accepted", "Use at least 1")
        known = ("auto", *get_args(Lane))
        if self.lane not in known:
            raise CalibrationError(f"--lane {self.lane!r} is not accepted", f"Use {', '.join(known)}")
        check_weight(self.weight)

    def design(self, pipeline: Pipeline) -> Design:
        """The grid: counts double, and so do chunks as far as the model has them."""
        sizes = (pipeline.default_size,) if self.sizes is None else _sizes(self.sizes)
        rows, decodings, chunks = self.max_rows, self.max_decodings, min(self.max_chunks, pipeline.max_chunks)
        if self.quick:
            rows, decodings = min(rows, _QUICK_ROWS), min(decodings, _QUICK_DECODINGS)
            chunks = min(chunks, _QUICK_CHUNKS)
        few = {"held_out": _QUICK_HELD_OUT} if self.quick else {}
        return Design(
            sizes, (0, *doubling(rows)), tuple(dict.fromkeys((0, 1, decodings))), doubling(chunks), pipeline.guided,
            self.repeats, seed=self.seed, weight=self.weight, **few,
        )  # fmt: skip


def measure(options: LatencyOptions, out: Path | None, as_json: bool) -> None:
    """Measures a model and writes the files. Everything that can be refused is, before any work."""
    import torch

    from headrace.cli.calibrate_latency_plots import draw_contention, draw_throughput
    from headrace.evaluation.machine import machine_name
    from headrace.models.pipelines.folder import inspect
    from headrace.models.pipelines.loading import load
    from headrace.serving.profile import check_design, lanes_of, probes, profile

    asked = options.engine
    folder = out or Path("outputs") / "calibrate" / f"{inspect(asked.model).name}-latency"
    if options.sizes is not None:
        _sizes(options.sizes)
    prepare_folder(folder, _LEAST_ROOM)
    pipeline = load(asked.model, device=asked.device, dtype=getattr(torch, asked.dtype))
    request, design = _request(pipeline), options.design(pipeline)
    lanes = _lanes(options.lane, lanes_of(pipeline))
    check_design(pipeline, request, design)
    with calibration_bar(probes(design, lanes), "rounds") as advance:
        table = profile(pipeline, request, design, machine_name(pipeline.device), lanes, advance)
    table.save(folder / "latency.json")
    draw_throughput(table, folder / "throughput.png")
    draw_contention(table, folder / "contention.png")
    show(table, folder, as_json)


def _sizes(text: str) -> tuple[Size, ...]:
    return tuple(parse_size(part.strip()) for part in text.split(","))


def _lanes(asked: str, known: tuple[Lane, ...]) -> tuple[Lane, ...]:
    if asked == "auto":
        return known
    chosen = tuple(lane for lane in known if lane == asked)
    if not chosen:
        raise CalibrationError(f"this device has no {asked!r} lane", f"Use auto, {' or '.join(known)}")
    return chosen


def _request(pipeline: Pipeline) -> Request:
    values: dict[str, Any] = {"prompt": _PROMPT, "class_label": 0}
    needed = needed_field(pipeline, Request())
    return Request(**{name: value for name, value in values.items() if name == needed})


def show(table: LatencyTable, folder: Path, as_json: bool) -> None:
    """What was found of each size, and the choices; or one JSON object."""
    if as_json:
        summary = {
            "table": str(folder / "latency.json"), "model": table.model, "machine": table.machine, "lane": table.lane,
            "chunks": table.chunks, "max_chunks": table.max_chunks, "error": table.error, "max_error": table.max_error,
            "saturation": {f"{one.width}x{one.height}": one.saturation for one in table.sizes}, **table.figures,
        }  # fmt: skip
        typer.echo(json.dumps(summary))
        return
    shown = Table(box=None, pad_edge=False)
    for name in ("size", "a row", "full at", "rows/s", "a decoding", "full at", "together"):
        shown.add_column(name, justify="right")
    for entry in table.sizes:
        size, rows = entry.size, entry.saturation
        decoders = table.figures[f"decoder_saturation_{entry.width}x{entry.height}"]
        shown.add_row(
            f"{entry.width}x{entry.height}", _ms(table.unet_s(size, 1)), f"{rows}",
            f"{rows / float(table.unet_s(size, rows)):.1f}", _ms(table.vae_s(size, 0, 1)), f"{decoders:.0f}",
            _ms(table.unet_s(size, rows, 1, 0, table.chunks)),
        )  # fmt: skip
    Console().print(shown)
    typer.echo("full: more in a call gain little; together: a round of so many rows and a chunk of a decoding")
    typer.echo(f"lane: {table.lane}{_compared(table)}")
    for chunks in (grid.chunks for grid in table.sizes[0].grids):
        unet, vae = (table.figures[f"{part}_overhead_{chunks}_chunks"] for part in ("unet", "vae"))
        typer.echo(f"decoding in {chunks} chunk{'s'[: chunks > 1]}: rounds {unet:+.1%}, decoding {vae:+.1%}")
    kept = "" if table.figures["unet_bound_kept"] else ", which not one chunk count keeps"
    bound = table.figures["unet_bound"]
    typer.echo(f"chosen: {table.chunks}; at most {table.max_chunks}: rounds of rows at most {bound:.0%} longer{kept}")
    typer.echo(
        f"interpolation is off by {table.error:.1%} on average, {table.max_error:.1%} at most, "
        f"at {table.figures['held_out']:.0f} loads that are not on the grid"
    )
    typer.echo(f"written: latency.json, throughput.png and contention.png in {folder}")


def _compared(table: LatencyTable) -> str:
    ratios = [(name, value) for name, value in table.figures.items() if "_over_" in name]
    return "".join(f" ({name.replace('_', ' ')}: {value:.2f} times as long)" for name, value in ratios)


def _ms(seconds: Any) -> str:
    return f"{1000 * float(seconds):.1f} ms"
