"""Jobs through an engine and onto disk: few submitted ahead, every picture written as soon as it is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from headrace.cli.jobs import BadLine, Job
from headrace.cli.lookahead import Lookahead
from headrace.cli.picture_writer import PictureWriter
from headrace.cli.pictures import file_name, is_made
from headrace.engine import Engine, Result, RoundReport
from headrace.errors import HeadraceError, OutputError
from headrace.request import Request
from headrace.software import software

_RECORDS = ("unguided_rows", "fusion_rows", "padded_rows")


@dataclass(frozen=True)
class Destination:
    """Where pictures go, and what they come from.

    Attributes:
        weights: fingerprint of the model (`headrace.models.pipelines.fingerprint`).
        techniques: name -> identity of what pictures depend on besides (`headrace.cli.pictures.TECHNIQUES`).
    """

    folder: Path
    weights: str
    techniques: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    """A picture in the engine, and the jobs that wait for it: more than one where the same was asked for twice.

    It is number `picture` of those that `request` makes.
    """

    jobs: list[Job]
    path: Path
    settings: dict[str, Any]
    request: Request
    picture: int


@dataclass
class Tally:
    """What became of the jobs. `kept`: finished by an earlier run."""

    made: int = 0
    kept: int = 0
    failed: int = 0


class Watcher(Protocol):
    """Is told what happens, as it happens."""

    def planned(self, rows: int) -> None:
        """A job was submitted that takes this many plan rows; 0 where another one's rows make its picture too."""

    def round(self, report: RoundReport) -> None:
        """The engine ran a round."""

    def picture(self, job: Job, path: Path, settings: dict[str, Any], made: bool) -> None:
        """A picture is on disk, `made` now or found there."""

    def failure(self, job: Job | BadLine, error: HeadraceError) -> None:
        """A job came to nothing."""


class Production:
    """Makes the pictures of a stream of jobs. At most `ahead` of them are in the engine at any time.

    Finished ones are encoded and written by threads beside the engine, and told of once they are on disk.
    """

    def __init__(self, engine: Engine, destination: Destination, watcher: Watcher, ahead: int) -> None:
        self._engine = engine
        self._destination = destination
        self._watcher = watcher
        self._ahead = ahead
        # By ticket: of one request, those of its pictures that are wanted.
        self._running: dict[int, list[_Running]] = {}
        self._writer: PictureWriter[_Running] = PictureWriter(most=ahead)
        self._told: deque[tuple[int | None, str]] = deque(maxlen=1000)
        self.tally = Tally()

    def run(self, jobs: Lookahead[Job | BadLine]) -> Tally:
        """Runs to the end of the stream. A job that fails is reported and the rest is done. Raises `OutputError`."""
        with self._writer:
            while True:
                self._settle(self._writer.written())
                self._fill(jobs, wait=False)
                if not self._running:
                    # Before the stream may have to be waited for, everything that is done is told of.
                    self._settle(self._writer.written(everything=True))
                    self._fill(jobs, wait=True)
                if self._running:
                    self._watcher.round(self._engine.step())
                    for result in self._engine.collect():
                        self._finish(result)
                elif jobs.exhausted and not self._writer.pending:
                    return self.tally

    def _fill(self, jobs: Lookahead[Job | BadLine], wait: bool) -> None:
        for _ in range(self._ahead):  # bounded: many finished pictures must not keep the engine waiting
            if len(self._running) >= self._ahead:
                return
            job = jobs.take(wait=wait and not self._running)
            if job is None:
                return
            self._start(job)

    def _start(self, job: Job | BadLine) -> None:
        if isinstance(job, BadLine):
            self._fail(job, job.error)
            return
        try:
            request, picture = job.of_several(self._engine.pipeline.pictures)
            settings = self._settings(request, picture)
            path = self._destination.folder / file_name(settings, job.name)
            under_way = (*chain(*self._running.values()), *self._writer.pending)
            same = next((running for running in under_way if running.path == path), None)
            if same is not None:
                same.jobs.append(job)
            elif is_made(path, settings):
                self._keep(job, path, settings)
            else:
                self._submit(_Running([job], path, settings, request, picture))
        except OutputError:
            raise
        except HeadraceError as error:
            self._fail(job, error)

    def _submit(self, wanted: _Running) -> None:
        """To the engine, unless its request is there already, for another of its pictures."""
        for pictures in self._running.values():
            if pictures[0].request == wanted.request and wanted.picture not in {one.picture for one in pictures}:
                pictures.append(wanted)
                self._watcher.planned(0)
                return
        self._running[self._engine.submit(wanted.request)] = [wanted]
        self._watcher.planned(len(self._engine.plan(wanted.request)))

    def _settings(self, request: Request, picture: int) -> dict[str, Any]:
        """What the picture depends on, defaults filled in, as it is written into the file."""
        engine = self._engine
        plan = engine.plan(request)
        height, width = engine.pipeline.size(request)
        return {
            "model": engine.pipeline.name,
            "weights": self._destination.weights,
            "dtype": str(engine.pipeline.dtype).removeprefix("torch."),
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "class_label": request.class_label,
            "solver": request.solver or plan.solver,
            "steps": request.steps,
            "guidance_scale": engine.pipeline.guidance_scale(request),
            "height": height,
            "width": width,
            "seed": request.seed,
            "plan": plan.digest,
            "headrace": software(),
            **self._destination.techniques,
            **({"picture": picture} if engine.pipeline.pictures > 1 else {}),
        }

    def _finish(self, result: Result) -> None:
        for running in self._running.pop(result.number):
            if result.error is not None:
                for job in running.jobs:
                    self._fail(job, result.error)
                continue
            running.settings |= _executed(result)
            image = result.images[running.picture]
            self._settle(self._writer.write(running, running.path, image, running.settings))

    def _settle(self, written: list[_Running]) -> None:
        """Tells of pictures that are on disk now."""
        for running in written:
            first, *others = running.jobs
            self.tally.made += 1
            self._watcher.picture(first, running.path, running.settings, made=True)
            for job in others:
                self._keep(job, running.path, running.settings)

    def _keep(self, job: Job, path: Path, settings: dict[str, Any]) -> None:
        self.tally.kept += 1
        self._watcher.picture(job, path, settings, made=False)

    def _fail(self, job: Job | BadLine, error: HeadraceError) -> None:
        self.tally.failed += 1
        told = job.line, str(error)
        if told not in self._told:  # the pictures of one request often fail alike
            self._told.append(told)
            self._watcher.failure(job, error)


def _executed(result: Result) -> dict[str, Any]:
    """What is on record of the rows as they ran: the plan, which had no guidance, and with what K they were fused."""
    return {"plan": result.plan.digest, **{name: result.settings[name] for name in _RECORDS if name in result.settings}}
