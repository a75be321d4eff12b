"""`headrace generate`: pictures from a prompt, or from a file of requests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.fusion import HELP
from headrace.errors import RequestError

if TYPE_CHECKING:
    from headrace.cli.jobs import BadLine, Job
    from headrace.engine import Engine
    from headrace.engine.acceleration import Acceleration

DTYPES = ("float32", "float16", "bfloat16")
# Requests in the engine, in slots or waiting: enough that a slot never stays empty, few enough that memory stays flat.
_AHEAD_OF_SLOTS = 2
_LEAST_ROOM = 1 << 20  # bytes


@dataclass(frozen=True)
class EngineOptions:
    """How the command line asks for an engine."""

    model: str
    device: str
    dtype: str
    slots: int
    fusion: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise RequestError("dtype", f"--dtype {self.dtype!r} is not accepted", f"Use one of {', '.join(DTYPES)}")


def generate(
    prompt: Annotated[str | None, typer.Argument(help="what to show; leave out for models without text")] = None,
    model: Annotated[str, typer.Option(help="embedded name or diffusers folder")] = "emoji",
    steps: Annotated[int | None, typer.Option(help="inference steps (default: 20)")] = None,
    solver: Annotated[str | None, typer.Option(help="ddim, dpm++2m, euler-a, ... (default: the model's)")] = None,
    guidance: Annotated[float | None, typer.Option(help="guidance scale; 1 is off (default: the model's)")] = None,
    negative: Annotated[str | None, typer.Option(help="what guidance moves away from")] = None,
    label: Annotated[int | None, typer.Option("--class", help="class label, for class-conditional models")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels (default: the model's)")] = None,
    height: Annotated[int | None, typer.Option(help="pixels")] = None,
    width: Annotated[int | None, typer.Option(help="pixels")] = None,
    seed: Annotated[int | None, typer.Option(help="of the first picture; the next add 1, 2, ...")] = None,
    n: Annotated[int | None, typer.Option("--n", "-n", help="pictures of each request (default: 1)")] = None,
    source: Annotated[str | None, typer.Option("--from", help="file of JSON lines, or - for standard input")] = None,
    out: Annotated[Path, typer.Option(help="folder for the pictures")] = Path("outputs"),
    device: Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0")] = "cpu",
    dtype: Annotated[str, typer.Option(help=" | ".join(DTYPES))] = "float32",
    slots: Annotated[int, typer.Option(min=1, help="pictures in memory at once")] = 32,
    block_cache: Annotated[
        Path | None,
        typer.Option(help="of `headrace calibrate blocks`: reuse blocks that change little", metavar="SCHEDULE.json"),
    ] = None,
    acceleration: Annotated[
        Path | None, typer.Option(help="of `headrace tune`: the techniques that it chose", metavar="ACCELERATION.json")
    ] = None,
    fusion: Annotated[str | None, typer.Option(help=HELP, metavar="POLICY")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a picture on standard output")] = False,
) -> None:
    """Make pictures. Each is a PNG that carries its settings; a second run makes only those that are missing.

    With --from, the other options are defaults for what a line leaves out. Fields of a line: prompt, negative_prompt,
    class_label, steps, solver, guidance_scale, height, width, seed, n, name.

    With --block-cache, solver and steps are by default those that the schedule was measured with, and reused values
    are scaled and shifted where `headrace calibrate scale-shift` has been run for it. With --acceleration, they are
    those that were tuned.

    Where images share evaluations (--fusion, or a model that was made for it), a picture depends on those that it is
    made beside: the same command makes the same pictures, another --n or --slots may make others.
    """
    height, width = _size(size, height, width)
    options = {
        "prompt": prompt, "negative_prompt": negative, "class_label": label, "steps": steps, "solver": solver,
        "guidance_scale": guidance, "height": height, "width": width, "seed": seed, "n": n,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    engine = EngineOptions(model, device, dtype, slots, fusion)
    used = _accelerations(block_cache, acceleration)
    for one in used.values():
        given = {**one.defaults, **given}
    jobs, total = _jobs(given, source)
    _run(jobs, total, engine, used, out, as_json)


def _size(size: str | None, height: int | None, width: int | None) -> tuple[int | None, int | None]:
    """(height, width) from --size or from --height and --width. Raises `RequestError`."""
    if size is None:
        return height, width
    if height is not None or width is not None:
        raise RequestError("size", f"--size {size} and --height or --width were both given", "Give one of them")
    return parse_size(size)


def parse_size(size: str) -> tuple[int, int]:
    """(height, width) of WIDTHxHEIGHT. Raises `RequestError`."""
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", size)
    if match is None:
        raise RequestError("size", f"--size {size!r} is not accepted", "Write WIDTHxHEIGHT in pixels, such as 64x48")
    return int(match[2]), int(match[1])


def _jobs(given: dict[str, Any], source: str | None) -> tuple[Iterator[Job | BadLine], int | None]:
    """The jobs, and how many pictures they are where that can be known. Raises `RequestError`."""
    from headrace.cli.jobs import count_pictures, expand, open_lines, read_jobs

    if source is None:
        return expand(given), given.get("n", 1)
    if "prompt" in given or "class_label" in given:
        raise RequestError("from", "a prompt or class was given beside --from", "Put it into the lines")
    lines = open_lines(source)
    total = count_pictures(source) if "n" not in given else None
    return read_jobs(lines, given), total


def _accelerations(block_cache: Path | None, acceleration: Path | None) -> dict[str, Acceleration]:
    """What is asked for, at most one, under the name that pictures carry it by. Raises `RequestError`."""
    if block_cache is not None and acceleration is not None:
        raise RequestError(
            "acceleration",
            "--block-cache and --acceleration were both given",
            "An acceleration holds its own: give one",
        )
    if acceleration is not None:
        from headrace.engine.acceleration import load_acceleration

        return {"acceleration": load_acceleration(acceleration)}
    if block_cache is not None:
        from headrace.tuning.acceleration import load_block_cache

        return {"block_cache": load_block_cache(block_cache)}
    return {}


def _run(
    jobs: Iterator[Job | BadLine],
    total: int | None,
    options: EngineOptions,
    used: Mapping[str, Acceleration],
    out: Path,
    as_json: bool,
) -> None:
    from headrace.cli.pictures import prepare_folder
    from headrace.models.pipelines.folder import inspect

    prepare_folder(out, _LEAST_ROOM)
    folder = inspect(options.model)

    # From here on the imports are heavy, and mistakes in the options have been found.
    from headrace.cli.generate_display import GenerateDisplay
    from headrace.cli.lookahead import Lookahead
    from headrace.cli.production import Destination, Production
    from headrace.models.pipelines.fingerprint import fingerprint

    engine = build_engine(options, used)
    destination = Destination(out, fingerprint(folder), {name: one.identity for name, one in used.items()})
    ahead = _AHEAD_OF_SLOTS * options.slots
    with GenerateDisplay(total, as_json) as display:
        tally = Production(engine, destination, display, ahead).run(Lookahead(jobs, ahead))
    display.summary(tally, out)
    if tally.failed:
        raise typer.Exit(1)


def build_engine(options: EngineOptions, used: Mapping[str, Acceleration] | None = None) -> Engine:
    """An engine on the model; its rows follow the decisions of an acceleration, and the fusion that is asked for.

    Raises `ModelError`, and `PlanError` for a fusion that is none of this model's.
    """
    import torch

    from headrace.cli.fusion import decide_fusion
    from headrace.engine import Engine, EngineSettings
    from headrace.models.pipelines.loading import load

    pipeline = load(options.model, device=options.device, dtype=getattr(torch, options.dtype))
    decide = next((one.attach(pipeline) for one in (used or {}).values()), None)
    if options.fusion is not None:
        decide = decide_fusion(options.fusion, pipeline, decide)
    return Engine(pipeline, EngineSettings(slots=options.slots), decide)
