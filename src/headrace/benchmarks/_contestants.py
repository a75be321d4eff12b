"""Who is compared: diffusers one by one, diffusers with equal settings batched, and the engine; each in small turns.

A contestant is a generator that makes all pictures of a load and yields, after every turn, the share of the work
that is done, so that several can be run side by side on a machine whose speed drifts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.benchmarks._mixed_load import settings_key
from headrace.benchmarks._progress import Show
from headrace.engine import Engine
from headrace.errors import HeadraceError
from headrace.models import solvers
from headrace.models.pipelines.folder import inspect
from headrace.models.pipelines.loading import load_components
from headrace.plan import Plan
from headrace.request import Request

Pixels = NDArray[np.uint8]
Turns = Iterator[float]


class Diffusers:
    """A diffusers pipeline as its users drive it: loaded by `from_pretrained`, the scheduler swapped for each call."""

    def __init__(self, model: str | Path, device: str, largest_batch: int = 32, channels_last: bool = False) -> None:
        self._pipeline = load_components(inspect(model)).to(device)
        if channels_last:
            for part in (self._pipeline.unet, self._pipeline.vae):
                part.to(memory_format=torch.channels_last)
        self._base_config = self._pipeline.scheduler.config
        self._largest_batch = largest_batch

    def one_by_one(self, requests: Sequence[Request], pictures: dict[int, Pixels]) -> Turns:
        """A call for each request."""
        return self._calls([[index] for index in range(len(requests))], requests, pictures)

    def grouped(self, requests: Sequence[Request], pictures: dict[int, Pixels]) -> Turns:
        """A call for each set of equal settings, every request with its own generator."""
        return self._calls(groups(requests, self._largest_batch), requests, pictures)

    def _calls(self, calls: list[list[int]], requests: Sequence[Request], pictures: dict[int, Pixels]) -> Turns:
        work = sum(cost(request) for request in requests)
        done = 0
        for indices in calls:
            chosen = [requests[index] for index in indices]
            pictures.update(zip(indices, self.call(chosen), strict=True))
            done += sum(cost(request) for request in chosen)
            yield done / work

    def call(self, requests: Sequence[Request]) -> list[Pixels]:
        """The pictures of requests of equal settings, from one call of the pipeline."""
        first = requests[0]
        self._pipeline.scheduler = solvers.build(first.solver or "ddim", self._base_config)
        output = self._pipeline(
            prompt=[request.prompt for request in requests],
            negative_prompt=[request.negative_prompt or "" for request in requests],
            num_inference_steps=first.steps,
            guidance_scale=first.guidance_scale,
            height=first.height,
            width=first.width,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            output_type="pil",
        )
        return [np.asarray(image) for image in output.images]


def engine_turns(
    engine: Engine, requests: Sequence[Request], pictures: dict[int, Pixels], plans: Sequence[Plan] | None = None
) -> Turns:
    """All requests submitted at once, with the engine's own plans or these; a turn is a round.

    Raises what a request failed with.
    """
    planned = plans or [engine.plan(request) for request in requests]
    asked = zip(requests, planned, strict=True)
    tickets = {engine.submit(request, plan): index for index, (request, plan) in enumerate(asked)}
    work = sum(len(plan) for plan in planned)
    done = 0
    while engine.busy:
        done += engine.step().rows
        for result in engine.collect():
            if result.error is not None:
                raise result.error
            pictures[tickets[result.number]] = np.asarray(result.image)
        yield done / work


def groups(requests: Sequence[Request], largest: int) -> list[list[int]]:
    """Indices of requests with equal settings, at most `largest` together, in order of first appearance."""
    found: dict[tuple[object, ...], list[list[int]]] = {}
    for index, request in enumerate(requests):
        batches = found.setdefault(settings_key(request), [[]])
        if len(batches[-1]) == largest:
            batches.append([])
        batches[-1].append(index)
    return [batch for batches in found.values() for batch in batches]


def cost(request: Request) -> int:
    """Roughly how many network evaluations a request takes, to know how far a contestant is."""
    evaluations = 2 * request.steps - 1 if request.solver == "heun" else request.steps
    return evaluations * (1 if request.guidance_scale == 1.0 else 2)


def race(contestants: Mapping[str, Turns], device: str, show: Show) -> dict[str, float]:
    """Runs all to their ends, always the one that is least far, so that a slow spell of the machine hits all.

    Returns the seconds of each. `show` is told after every turn.
    """
    seconds = dict.fromkeys(contestants, 0.0)
    progress = dict.fromkeys(contestants, 0.0)
    while progress:
        name = min(progress, key=lambda key: progress[key])
        start = time.perf_counter()
        share = next(contestants[name], None)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        seconds[name] += time.perf_counter() - start
        if share is None:
            del progress[name]
        else:
            progress[name] = share
            show(name, share)
    return seconds


def pixel_difference(ours: Mapping[int, Pixels], theirs: Mapping[int, Pixels]) -> dict[str, Any]:
    """Largest difference in levels of 255, and the share of values within one level."""
    if ours.keys() != theirs.keys():
        raise HeadraceError(f"{len(ours)} pictures against {len(theirs)}", "Both sides must make all of them")
    differences = np.concatenate(
        [np.abs(ours[index].astype(np.int16) - theirs[index].astype(np.int16)).ravel() for index in sorted(ours)]
    )
    return {
        "max_pixel_difference": int(differences.max()),
        "pixel_share_within_1": float((differences <= 1).mean()),
    }
