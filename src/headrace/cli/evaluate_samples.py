"""The pictures that `headrace evaluate` measures: made by the engine and kept, or found in a folder."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.cli.generate import EngineOptions
from headrace.cli.generate_display import GenerateDisplay
from headrace.cli.jobs import Job
from headrace.cli.pictures import read_settings
from headrace.errors import DataError, RequestError
from headrace.evaluation.pictures import FileSource, PictureSource, open_source
from headrace.files import write_file
from headrace.request import Request

_AHEAD_OF_SLOTS = 2


@dataclass(frozen=True)
class SampleOptions:
    """What is made: `count` pictures like `request`, with the prompts of a file, or of the data set's captions."""

    engine: EngineOptions
    count: int
    request: Request
    prompts: Path | None = None
    data: Path | None = None


@dataclass(frozen=True)
class Samples:
    """Pictures to measure. `settings`, `cost` and `machine` are empty for pictures that were found."""

    source: PictureSource
    name: str
    settings: dict[str, Any]
    cost: dict[str, float]
    machine: dict[str, str | int]
    work: Path


class _Collector(GenerateDisplay):
    """The display of `headrace generate`, that also remembers which files belong to this evaluation."""

    def __init__(self, total: int) -> None:
        super().__init__(total, as_json=False)
        self.found: dict[Path, str | None] = {}
        self.settings: dict[str, Any] = {}

    def picture(self, job: Job, path: Path, settings: dict[str, Any], made: bool) -> None:
        """Counts and remembers it."""
        super().picture(job, path, settings, made)
        self.found[path] = job.request.prompt
        self.settings = settings


def make_samples(options: SampleOptions, work: Path | None) -> Samples:
    """Makes what is missing in the work folder. Raises `HeadraceError`; a picture that fails is told and left out."""
    import torch

    from headrace.cli.lookahead import Lookahead
    from headrace.cli.model_files import fingerprint
    from headrace.cli.pictures import prepare_folder
    from headrace.cli.production import Destination, Production
    from headrace.engine import Engine
    from headrace.evaluation.cost import measure_cost
    from headrace.evaluation.machine import describe_machine, peak_memory
    from headrace.models.pipelines.folder import inspect

    asked = options.engine
    folder = inspect(asked.model)
    work = work or Path("outputs") / "evaluate" / f"{folder.name}-{_identity(options, fingerprint(folder))}"
    place = Destination(work / "samples", fingerprint(folder))
    prepare_folder(place.folder, 1 << 20)
    engine = Engine.from_pretrained(
        asked.model, device=asked.device, dtype=getattr(torch, asked.dtype), slots=asked.slots
    )
    jobs = list(_jobs(options, engine.pipeline))
    first = jobs[0].request
    cost = measure_cost(engine.pipeline, first, engine.plan(first))
    ahead = _AHEAD_OF_SLOTS * asked.slots
    display = _Collector(len(jobs))
    with display:
        start = time.perf_counter()
        tally = Production(engine, place, display, ahead).run(Lookahead(jobs, ahead))
        seconds = time.perf_counter() - start
    if len(display.found) < 2:
        raise DataError(f"{len(display.found)} of {len(jobs)} pictures came out", "Mend what the errors above say")
    device = engine.pipeline.device
    speed = _speed(work / "speed.json", tally.made, seconds, peak_memory(device))
    counted = {
        "parameters": cost.parameters,
        "parameters_total": cost.parameters_total,
        "macs_a_row": cost.macs_a_row,
        "macs_attention_a_row": cost.macs_attention_a_row,
        "network_rows_a_picture": cost.network_rows,
        "macs_decoder": cost.macs_decoder,
        "macs_a_picture": cost.macs_a_picture,
    }
    shared = {key: value for key, value in display.settings.items() if key not in ("prompt", "class_label", "seed")}
    settings = {**shared, "first_seed": options.request.seed, "samples": len(jobs), "failed": tally.failed}
    source = FileSource(
        str(place.folder), sorted(display.found), captions=[display.found[p] for p in sorted(display.found)]
    )
    return Samples(source, folder.name, settings, {**counted, **speed}, describe_machine(device), work)


def find_pictures(path: Path, count: int, work: Path | None) -> Samples:
    """At most `count` pictures of a folder or parquet file, evenly; prompts are read from the files' own settings."""
    source = open_source(path, count)
    if isinstance(source, FileSource) and source.labels is None:
        settings = [read_settings(file) or {} for file in source.paths]
        captions = [one.get("prompt") for one in settings]
        if any(captions):
            source = FileSource(source.name, source.paths, captions=captions)
    name = path.resolve().stem
    return Samples(source, name, {"samples": len(source)}, {}, {}, work or Path("outputs") / "evaluate" / name)


def is_pictures(model: str) -> bool:
    """Whether the argument is a folder or file of pictures, not a model."""
    from headrace.models.pipelines.folder import embedded_models

    path = Path(model).expanduser()
    if model in embedded_models() or not path.exists():
        return False
    return path.suffix == ".parquet" if path.is_file() else not (path / "model_index.json").exists()


def _jobs(options: SampleOptions, pipeline: Any) -> Iterator[Job]:
    """`count` jobs: prompts or classes in turn, as the model needs them; seeds seed, seed + 1, ..."""
    needed = _needed(pipeline, options.request)
    texts = _prompts(options) if needed == "prompt" else []
    classes = _classes(pipeline) if needed == "class_label" else 0
    if options.prompts is not None and needed != "prompt":
        raise RequestError("prompts", f"{pipeline.name} takes no prompts", "Leave --prompts out")
    for number in range(options.count):
        update: dict[str, Any] = {"seed": options.request.seed + number}
        if texts:
            update["prompt"] = texts[number % len(texts)]
        if classes:
            update["class_label"] = number % classes
        request = options.request.model_copy(update=update)
        pipeline.check(request)
        yield Job(request, f"{number:06d}")


def _needed(pipeline: Any, request: Request) -> str | None:
    """The field that a request of this model cannot do without. Raises `RequestError` for any other fault."""
    try:
        pipeline.check(request)
    except RequestError as error:
        if error.field in ("prompt", "class_label"):
            return error.field
        raise
    return None


def _classes(pipeline: Any) -> int:
    config = pipeline.network.config
    return int(config.get("num_class_embeds") or config.get("num_embeds_ada_norm") or 1)


def _prompts(options: SampleOptions) -> list[str]:
    if options.prompts is not None:
        try:
            lines = options.prompts.expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError("prompts", f"{options.prompts} cannot be read: {error}", "Give a text file") from None
        found = [line.strip() for line in lines if line.strip()]
        where = str(options.prompts)
    else:
        where = f"the captions of {options.data}"
        entries = open_source(options.data).entries() if options.data is not None else iter(())
        found = [entry.caption for entry in entries if entry.caption]
        random.Random(0).shuffle(found)  # so that the first few stand for all, and more samples begin with the same
    if not found:
        raise RequestError(
            "prompts", f"a text-to-image model needs prompts, and {where} has none", "Add --prompts FILE"
        )
    for text in found:
        Request.parse({"prompt": text})
    return found


def _identity(options: SampleOptions, weights: str) -> str:
    """Names the work folder: other settings never share one, more samples of the same ones do."""
    asked = options.engine
    prompts = str(options.prompts or options.data)
    parts = [weights, asked.dtype, asked.device, options.request.model_dump_json(), prompts]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]


def _speed(path: Path, made: int, seconds: float, peak: int) -> dict[str, float]:
    """Pictures a second over all runs that made some of these samples; each run adds its own to the file."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        total = {key: float(before[key]) for key in ("images_timed", "seconds", "peak_memory_bytes")}
    except (OSError, ValueError, KeyError, TypeError):
        total = {"images_timed": 0.0, "seconds": 0.0, "peak_memory_bytes": 0.0}
    if made:
        peak_bytes = max(total["peak_memory_bytes"], float(peak))
        total = {
            "images_timed": total["images_timed"] + made,
            "seconds": total["seconds"] + seconds,
            "peak_memory_bytes": peak_bytes,
        }
        write_file(path, lambda temporary: temporary.write_text(json.dumps(total), encoding="utf-8"))
    if not total["images_timed"]:
        return {}
    return {**total, "images_per_second": total["images_timed"] / total["seconds"]}
