"""All contestants of the study in one run: what they make, how long it takes, how many operations it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.benchmarks._contestants import race
from headrace.benchmarks._progress import bars
from headrace.engine import Engine, EngineSettings
from headrace.files import write_file
from headrace.models.macs import count_macs
from headrace.models.pipelines.base import Pipeline
from headrace.plan import Plan
from headrace.request import Request
from headrace.tuning.settings import Settings

Decide = Callable[[Plan], Plan]
# The techniques of settings on a pipeline inside the context, which gives what fills the plans.
Attach = Callable[[Pipeline, Settings], AbstractContextManager[Decide]]
Pixels = NDArray[np.uint8]


@dataclass
class Contestant:
    """One family at one number of steps, and what was measured of it.

    Attributes:
        family: its name.
        settings: what is run.
        macs: operations of one picture: every network evaluation that its plan makes, and the decoder.
        seconds: of all pictures, in batches.
        count: pictures so far.
        files: of their batches, uint8 [n, H, W, 3] each, in the order of the requests: not kept in memory, which many
            settings of a large model would fill.
    """

    family: str
    settings: Settings
    macs: int = 0
    seconds: float = 0.0
    count: int = 0
    files: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Family and steps."""
        return f"{self.family}, {self.settings.steps}"

    @property
    def pictures(self) -> Pixels:
        """All that were made, read again: [N, H, W, 3]."""
        return np.concatenate([np.load(file) for file in self.files])

    @property
    def seconds_a_picture(self) -> float:
        """Mean over the batches."""
        return self.seconds / self.count

    def keep(self, pictures: Pixels, folder: Path) -> None:
        """Take in a batch, whose file goes into `folder`. Raises `OutputError`."""
        file = folder / f"{self.family}-{self.settings.steps}-{len(self.files)}.npy"
        write_file(file, lambda path: np.save(path, pictures))
        self.files.append(file)
        self.count += len(pictures)


class Measurement:
    """The same requests (conditioning, seed, size) for every contestant, `batch` of them at a time.

    `folder` is where pictures are put while it lasts.
    """

    def __init__(
        self, pipeline: Pipeline, requests: Sequence[Request], attach: Attach, batch: int, folder: Path
    ) -> None:
        self._pipeline, self._requests, self._attach, self._folder = pipeline, requests, attach, folder
        self._settings = EngineSettings(slots=batch, max_rows=2 * batch)
        self._batches = [requests[start : start + batch] for start in range(0, len(requests), batch)]

    def run(self, contestants: Sequence[Contestant]) -> None:
        """Fills the contestants in: operations first, which warms all of them up, then pictures and time.

        Contestants take turns of one batch, always the one that is least far, so that a slow spell of the machine
        falls on all of them; what is put on the network and taken off it between turns is not timed. Raises what
        a request fails with.
        """
        with bars() as show:
            for place, contestant in enumerate(contestants, start=1):
                contestant.macs = self.macs(contestant.settings)
                show("counting operations", place / len(contestants))
            race({one.name: self._turns(one) for one in contestants}, self._pipeline.device.type, show)

    def macs(self, settings: Settings) -> int:
        """Multiply-accumulate operations of one picture, counted while it is made; text encoders are left out.

        Whatever the plan decides is in it (guidance, size, reused blocks), since nothing else is evaluated.
        """
        request = self._requests[0]
        self._pipeline.encode([request])  # kept, so that it is not counted below
        with self._attach(self._pipeline, settings) as decide:
            engine = self._engine(decide)
            return count_macs(lambda: self._generate(engine, settings, [request])).total

    def _turns(self, contestant: Contestant) -> Iterator[float]:
        for number, requests in enumerate(self._batches, start=1):
            with self._attach(self._pipeline, contestant.settings) as decide:
                engine = self._engine(decide)
                start = time.perf_counter()
                pictures = self._generate(engine, contestant.settings, requests)
                if self._pipeline.device.type == "cuda":
                    torch.cuda.synchronize(self._pipeline.device)
                contestant.seconds += time.perf_counter() - start
            contestant.keep(pictures, self._folder)
            yield number / len(self._batches)

    def _engine(self, decide: Decide) -> Engine:
        return Engine(self._pipeline, self._settings, decide=decide)

    def _generate(self, engine: Engine, settings: Settings, requests: Sequence[Request]) -> Pixels:
        changes = {"solver": settings.solver, "steps": settings.steps}
        results = engine.generate([request.model_copy(update=changes) for request in requests])
        return np.stack([np.asarray(result.image.convert("RGB")) for result in results])
