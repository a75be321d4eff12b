"""`headrace demo`: a mixed crowd of requests, once through diffusers and once through the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from headrace.benchmarks._contestants import Pixels
    from headrace.request import Request

    Sides = tuple[dict[int, Pixels], dict[int, Pixels]]  # by index of the request: diffusers, headrace

_ROOM = 4 << 20  # bytes


def demo(
    model: Annotated[str, typer.Option(help="embedded name or diffusers folder of a text-to-image model")] = "emoji",
    out: Annotated[Path, typer.Option(help="folder for the pictures")] = Path("outputs/demo"),
    requests: Annotated[int, typer.Option(min=1, max=1000, help="how many")] = 24,
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="six requests of few steps")] = False,
) -> None:
    """Make the same mixed requests with diffusers, one by one, and with Headrace; compare time and pixels."""
    from headrace.cli.pictures import prepare_folder
    from headrace.models.pipelines.folder import inspect

    prepare_folder(out, _ROOM)
    inspect(model)
    load, pictures, figures = _compare(model, device, requests, quick)
    _print(figures)
    written = _write(out, load, pictures, figures)
    typer.echo(f"{2 * len(load)} pictures in {out}, side by side in {written}")


def _compare(model: str, device: str, count: int, quick: bool) -> tuple[list[Request], Sides, dict[str, Any]]:
    """The load, both sides' pictures, and the figures."""
    from headrace.benchmarks._contestants import Diffusers, engine_turns, pixel_difference, race
    from headrace.benchmarks._mixed_load import mixed_load
    from headrace.benchmarks._progress import bars
    from headrace.benchmarks.throughput import ENGINE, SEQUENTIAL, describe_device, warm_up
    from headrace.engine import Engine

    engine, diffusers = Engine.from_pretrained(model, device=device), Diffusers(model, device)
    load = mixed_load(6 if quick else count, engine.pipeline)
    if quick:
        load = [request.model_copy(update={"steps": request.steps // 5}) for request in load]
    typer.echo(f"{len(load)} requests on {engine.pipeline.name}; warming both sides up first", err=True)
    warm_up(engine, diffusers, load)
    theirs: dict[int, Pixels] = {}
    ours: dict[int, Pixels] = {}
    with bars() as show:
        seconds = race({SEQUENTIAL: diffusers.one_by_one(load, theirs)}, device, show)
        seconds |= race({ENGINE: engine_turns(engine, load, ours)}, device, show)
    figures = {
        "requests": len(load),
        "images_per_second_sequential": len(load) / seconds[SEQUENTIAL],
        "images_per_second_engine": len(load) / seconds[ENGINE],
        "speedup_vs_sequential": seconds[SEQUENTIAL] / seconds[ENGINE],
        **pixel_difference(ours, theirs),
        "device": describe_device(device),
        "model": engine.pipeline.name,
    }
    return load, (theirs, ours), figures


def _print(figures: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "images/s", title=f"{figures['requests']} mixed requests, {figures['device']}")
    table.add_row("diffusers, one by one", f"{figures['images_per_second_sequential']:.2f}")
    table.add_row("headrace, one batch", f"{figures['images_per_second_engine']:.2f}")
    table.add_row("ratio", f"x{figures['speedup_vs_sequential']:.2f}")
    table.add_row("largest pixel difference", f"{figures['max_pixel_difference']} of 255")
    table.add_row("pixels within 1 of 255", f"{figures['pixel_share_within_1']:.3%}")
    Console().print(table)


def _write(out: Path, load: Sequence[Request], sides: Sides, figures: Mapping[str, Any]) -> Path:
    """Every picture, figures.json and the contact sheet; returns the sheet's path."""
    from PIL import Image

    from headrace.cli.contact_sheet import Pair, contact_sheet
    from headrace.cli.pictures import slug, write_picture
    from headrace.files import write_file, write_json

    pairs = []
    for index, request in enumerate(load):
        theirs, ours = (Image.fromarray(side[index]) for side in sides)
        for side, image in (("diffusers", theirs), ("headrace", ours)):
            settings = {"made_by": side, "model": figures["model"], **request.model_dump()}
            write_picture(out / f"{index + 1:03}-{slug(request.prompt)}-{side}.png", image, settings)
        details = f"{request.solver}, {request.steps} steps, guidance {request.guidance_scale:g}"
        pairs.append(Pair(theirs, ours, request.prompt or "", details))
    heading = (
        f"{figures['requests']} requests: diffusers one by one (left), Headrace in one batch (right)\n"
        f"{figures['images_per_second_sequential']:.2f} and {figures['images_per_second_engine']:.2f} images/s on "
        f"{figures['device']}: x{figures['speedup_vs_sequential']:.2f}; "
        f"largest pixel difference {figures['max_pixel_difference']} of 255"
    )
    sheet, path = contact_sheet(pairs, heading), out / "contact-sheet.png"
    write_file(path, lambda temporary: sheet.save(temporary, format="PNG", optimize=True))
    write_json(out / "figures.json", figures)
    return path
