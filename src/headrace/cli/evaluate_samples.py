"""The pictures that `headrace evaluate` measures: made by the engine and kept, or found in a folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.cli.evaluate_jobs import SampleOptions, find_conditions, make_jobs
from headrace.cli.evaluate_settings import Setting
from headrace.cli.evaluate_speed import add_run
from headrace.cli.generate_display import GenerateDisplay
from headrace.cli.jobs import Job
from headrace.cli.pictures import prepare_folder, read_settings
from headrace.errors import DataError
from headrace.pictures.entry import PictureSource
from headrace.pictures.folder import FileSource
from headrace.pictures.source import open_source
from headrace.request import Request

_AHEAD_OF_SLOTS = 2
_OF_ONE_PICTURE = ("prompt", "class_label", "seed", "picture", "fusion_rows", "padded_rows")


@dataclass(frozen=True)
class Samples:
    """Pictures to measure. `settings`, `cost` and `machine` are empty for pictures that were found.

    `machine`, and the slots in `settings`, are those that the pictures were timed on, by whichever run made them.
    """

    source: PictureSource
    name: str
    work: Path
    settings: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    machine: dict[str, str | int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class _Collector(GenerateDisplay):
    """The display of `headrace generate`, that also remembers which files belong to this evaluation."""

    def __init__(self, total: int) -> None:
        super().__init__(total, as_json=False)
        self.found: dict[Path, str | None] = {}
        self.settings: dict[str, Any] = {}
        self.began: float | None = None

    def planned(self, rows: int) -> None:
        """The first one starts the clock: looking through the pictures of earlier runs is no sampling."""
        self.began = time.perf_counter() if self.began is None else self.began
        super().planned(rows)

    def picture(self, job: Job, path: Path, settings: dict[str, Any], made: bool) -> None:
        """Counts and remembers it."""
        super().picture(job, path, settings, made)
        self.found[path] = job.request.prompt
        self.settings = settings


class Sampler:
    """A model, loaded once, that makes what is missing of the samples of each setting.

    Raises `ModelError`, and `RequestError`, `SolverError` or `PlanError` for settings that are none of this model's,
    before any work.
    """

    def __init__(self, options: SampleOptions, settings: Sequence[Setting]) -> None:
        from headrace.cli.generate import build_engine
        from headrace.models.pipelines.fingerprint import fingerprint
        from headrace.models.pipelines.folder import inspect

        asked = options.engine
        folder = inspect(asked.model)
        self.name = folder.name
        self._options = options
        self._weights = fingerprint(folder)
        self._engine = build_engine(asked)
        self._conditions = find_conditions(options, self._engine.pipeline)
        for setting in settings:
            self._engine.plan(self._first(setting))

    def _first(self, setting: Setting) -> Request:
        [job] = make_jobs(setting.applied_to(self._options.request), 1, self._conditions)
        return job.request

    def work_folder(self, setting: Setting) -> Path:
        """Where samples lie by default: other settings never share a folder, more samples of the same ones do."""
        options, asked = self._options, self._options.engine
        request = setting.applied_to(options.request).model_dump_json()
        parts = [self._weights, asked.dtype, asked.device, request, str(options.prompts or options.data)]
        parts += [] if asked.fusion is None else [asked.fusion]
        identity = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
        return Path("outputs") / "evaluate" / f"{self.name}-{setting.stem}-{identity}"

    def samples(self, setting: Setting, work: Path) -> Samples:
        """The samples of a setting in `work`, made as far as they are missing.

        Raises `DataError` with fewer than two; a picture that fails is told, left out and counted.
        """
        from headrace.cli.lookahead import Lookahead
        from headrace.cli.production import Destination, Production
        from headrace.evaluation.machine import describe_machine, peak_memory, reset_peak_memory

        options, device = self._options, self._engine.pipeline.device
        place = Destination(work / "samples", self._weights)
        prepare_folder(place.folder, 1 << 20)
        counted = self._count_cost(setting)
        reset_peak_memory(device)
        ahead = _AHEAD_OF_SLOTS * options.engine.slots
        jobs = make_jobs(setting.applied_to(options.request), options.count, self._conditions)
        with _Collector(options.count) as display:
            tally = Production(self._engine, place, display, ahead).run(Lookahead(jobs, ahead))
            ended = time.perf_counter()
        if len(display.found) < 2:
            raise DataError(
                f"{len(display.found)} of {options.count} pictures came out", "Mend what the errors above say"
            )
        conditions = {**describe_machine(device), "slots": options.engine.slots}
        seconds = 0.0 if display.began is None else ended - display.began
        speed, timed_on = add_run(work / "speed.json", tally.made, seconds, peak_memory(device), conditions)
        shared = {key: value for key, value in display.settings.items() if key not in _OF_ONE_PICTURE}
        shared |= {"first_seed": options.request.seed, "samples": options.count, "failed": tally.failed}
        shared |= {} if options.engine.fusion is None else {"fusion": options.engine.fusion}
        machine = {key: value for key, value in timed_on.items() if key != "slots"}
        shared["slots"] = timed_on.get("slots")
        warnings = self._conditions.warnings(options.count)
        if tally.failed:
            warnings.append(f"{tally.failed} of {options.count} pictures failed and are left out of all figures")
        paths = sorted(display.found)
        source = FileSource(str(place.folder), paths, captions=[display.found[path] for path in paths])
        return Samples(source, self.name, work, shared, {**counted, **speed}, machine, tuple(warnings))

    def _count_cost(self, setting: Setting) -> dict[str, float]:
        from headrace.evaluation.cost import measure_cost

        first = self._first(setting)
        cost = measure_cost(self._engine.pipeline, first, self._engine.plan(first))
        return {
            "parameters": cost.parameters,
            "parameters_total": cost.parameters_total,
            "macs_a_row": cost.macs_a_row,
            "macs_attention_a_row": cost.macs_attention_a_row,
            "network_rows_a_picture": cost.network_rows,
            "macs_decoder": cost.macs_decoder,
            "macs_a_picture": cost.macs_a_picture,
        }


def find_pictures(path: Path, count: int, work: Path | None) -> Samples:
    """At most `count` pictures of a folder or parquet file, evenly; prompts are read from the files' own settings."""
    source = open_source(path, count)
    if isinstance(source, FileSource) and source.labels is None:
        captions = [(read_settings(file) or {}).get("prompt") for file in source.paths]
        if any(captions):
            source = replace(source, captions=captions)
    name = path.resolve().stem
    work = work or Path("outputs") / "evaluate" / name
    return Samples(source, name, work, {"samples": len(source)})


def is_pictures(model: str) -> bool:
    """Whether the argument is a folder or file of pictures, not a model."""
    from headrace.models.pipelines.folder import embedded_models

    path = Path(model).expanduser()
    if model in embedded_models() or not path.exists():
        return False
    return path.suffix == ".parquet" if path.is_file() else not (path / "model_index.json").exists()
