"""The offline profiler (SynerDiff, section III-C): rounds of the real engine, timed, and the table that they make."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from headrace.engine import Engine, EngineSettings, Order
from headrace.errors import CalibrationError
from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.plan import Plan
from headrace.request import Request
from headrace.serving.chunk_choice import choose_chunks, chunk_figures
from headrace.serving.lane_choice import best_lane, lane_loads
from headrace.serving.latency_table import Lane, LatencyTable, SizeLatencies
from headrace.serving.measurement import (
    GAIN,
    Design,
    Load,
    Probe,
    Times,
    check_idle,
    chunk_times,
    deciding_loads,
    decoded_figure,
    interpolation_errors,
    measure,
    medians,
    saturation,
    size_latencies,
)
from headrace.serving.state import Size
from headrace.serving.table_check import PARAMETERS, Identity

_ROWS = 400  # of the plan of a request that is kept to be measured with
_DECIDING = 2  # times as often as the grid: what decides the chunk count


class EngineProbe:
    """Times rounds of an engine. Requests of each size stay in their slots, so that a round needs nothing but itself.

    A load is measured over all chunks of a decoding, and what comes out is their mean.
    """

    def __init__(self, engine: Engine, request: Request, rows: int = _ROWS) -> None:
        """`request` is one that the model serves; its size and plan are replaced. Those that stay have `rows` rows."""
        self._rows = rows
        self._engine = engine
        self._request = request
        self._scale = max(engine.pipeline.guidance(request), 1.0)
        self._kept: dict[tuple[Size, bool], list[int]] = {}

    def __call__(self, load: Load) -> Times:
        """Mean seconds over the rounds that `load.decodings` decodings take. Raises what a request failed with."""
        rounds = load.chunks if load.decodings else 1
        rows = self._residents(load.size, True, load.rows - load.skipped, rounds)
        rows += self._residents(load.size, False, load.skipped, rounds)
        decodings = self._denoised(load.size, load.decodings)
        times = []
        for _ in range(rounds):
            report = self._engine.step(Order(admit=(), rows=rows, decode=decodings, chunks=load.chunks))
            times.append((report.unet_s, report.decode_s))  # waits until both are done
        self._collect()
        unet, vae = np.mean(times, axis=0).tolist()
        return unet, vae

    def _residents(self, size: Size, guided: bool, count: int, rounds: int) -> list[int]:
        """Tickets of requests that have a row for each of the rounds."""
        kept = self._kept.setdefault((size, guided), [])
        for number in [one for one in kept[:count] if _left(self._engine, one) < rounds]:
            self._engine.cancel(number)
            kept.remove(number)
        missing = max(0, count - len(kept))
        kept += self._admit(size, _plan(self._rows, self._scale if guided else 1.0), missing, rows=False)
        return kept[:count]

    def _denoised(self, size: Size, count: int) -> list[int]:
        return self._admit(size, _plan(1, 1.0), count, rows=True)

    def _admit(self, size: Size, plan: Plan, count: int, rows: bool) -> list[int]:
        """Submits requests and gives them slots; with `rows` their first row is evaluated as well."""
        if not count:
            return []
        height, width = size
        request = self._request.model_copy(update={"height": height, "width": width})
        numbers = [self._engine.submit(request, plan) for _ in range(count)]
        self._engine.step(Order(admit=numbers, rows=numbers if rows else (), decode=()))
        self._collect()
        return numbers

    def _collect(self) -> None:
        for result in self._engine.collect():
            if result.error is not None:
                raise result.error


def _left(engine: Engine, number: int) -> int:
    standing = engine.progress(number)
    return standing.rows - standing.row


def _plan(rows: int, guidance: float) -> Plan:
    """Rows that cost what those of a solver with one earlier register do, and whose latents stay small."""
    b = np.tile([0.1, 0.1 if rows > 1 else 0.0], (rows, 1))
    return Plan(np.linspace(999, 1, rows), np.full(rows, 0.5), b, guidance=np.full(rows, guidance))


def profile(
    pipeline: Pipeline,
    request: Request,
    design: Design,
    machine: str,
    lanes: Sequence[Lane],
    progress: Callable[[int], None] | None = None,
) -> LatencyTable:
    """Measures a model and makes its latency table: lane, grids, saturation, chunk count and error.

    `lanes` are tried one against the other on the first size, and the best is measured with and stored; where there is
    one, it is taken. What decides the chunk count is measured more often than the rest. `progress` is told of every
    probe, `probes` of them. Warns (`HeadraceWarning`) of a busy machine. Raises
    `CalibrationError`, `CapacityError`, and what the model raises.
    """
    check_design(pipeline, request, design)
    lane, figures = _choose_lane(pipeline, request, design, lanes, progress)
    with _probe(pipeline, request, design, lane) as probe:
        samples = measure(design.loads, probe, design.repeats, design.seed, progress)
        differ = check_idle(samples)
        deciding = deciding_loads(design, _entries(design, medians(samples)))
        for load, times in measure(deciding, probe, _DECIDING * design.repeats, design.seed, progress).items():
            samples[load] += times
    figures |= {"saturation_gain": GAIN, "repeats": float(design.repeats), "spread": differ}
    return _table(design, medians(samples), identity(pipeline, machine), lane, figures)


def _entries(design: Design, times: Mapping[Load, Times]) -> tuple[SizeLatencies, ...]:
    return tuple(size_latencies(design, size, times) for size in design.sizes)


def _table(
    design: Design, times: Mapping[Load, Times], about: Identity, lane: Lane, figures: Mapping[str, float]
) -> LatencyTable:
    entries = _entries(design, times)
    table = LatencyTable(
        model=about.model, weights=about.weights, machine=about.machine, device=about.device, dtype=about.dtype,
        lane=lane, sizes=entries, chunks=1, max_chunks=1, error=0.0, max_error=0.0,
    )  # fmt: skip
    on_grid = set(design.grid)
    outside = [load for load in design.loads if load not in on_grid]
    errors = interpolation_errors(table, times, outside) or [0.0]
    decided = chunk_times(design, entries, times)
    choice = choose_chunks(decided, design.weight)
    found = {**figures, PARAMETERS: float(about.parameters), "held_out": float(len(outside))}
    found |= chunk_figures(decided, choice, design.weight) | _decoder_figures(design, times)
    update = {"chunks": choice.chunks, "max_chunks": choice.max_chunks, "figures": found}
    update |= {"error": statistics.fmean(errors), "max_error": max(errors)}
    return table.model_copy(update=update)


def probes(design: Design, lanes: Sequence[Lane]) -> int:
    """How many rounds `profile` times (decodings of several chunks are one)."""
    compared = len(lanes) * len(lane_loads(design)) if len(lanes) > 1 else 0
    deciding = _DECIDING * len(design.sizes) * (2 + len(design.chunks))
    return design.repeats * (compared + len(design.loads) + deciding)


def lanes_of(pipeline: Pipeline) -> tuple[Lane, ...]:
    """The lanes that an engine of this pipeline can have."""
    return ("interleaved", "streams") if pipeline.device.type == "cuda" else ("interleaved", "threads")


def identity(pipeline: Pipeline, machine: str) -> Identity:
    """What a latency table for this pipeline is checked against (`headrace.serving.table_check`)."""
    return Identity(
        model=pipeline.name, weights=pipeline_fingerprint(pipeline),
        parameters=sum(parameter.numel() for parameter in pipeline.network.parameters()),
        size_multiple=pipeline.size_multiple, machine=machine, device=pipeline.device.type,
        dtype=str(pipeline.dtype).removeprefix("torch."),
    )  # fmt: skip


def check_design(pipeline: Pipeline, request: Request, design: Design) -> None:
    """Raises `RequestError` for a size that the model does not make, `CalibrationError` for chunks it does not have."""
    for height, width in design.sizes:
        pipeline.check(request.model_copy(update={"height": height, "width": width}))
    if max(design.chunks) > pipeline.max_chunks:
        raise CalibrationError(
            f"decodings in {max(design.chunks)} chunks are to be measured, and {pipeline.name} has at most "
            f"{pipeline.max_chunks}",
            f"Use {pipeline.max_chunks} or less",
        )
    if pipeline.row_cache is not None:
        raise CalibrationError(f"{pipeline.name} caches blocks", "Calibrate the model as it was loaded")


@contextmanager
def _probe(pipeline: Pipeline, request: Request, design: Design, lane: Lane) -> Iterator[Probe]:
    """With room for every request that stays: rows of both kinds in each size, and the decodings beside them."""
    most = (2 * max(design.rows) + max(design.decodings)) * len(design.sizes)
    own = math.prod(pipeline.latent_shape(*pipeline.default_size))
    largest = max(math.prod(pipeline.latent_shape(*size)) for size in design.sizes)
    engine = Engine(pipeline, EngineSettings(slots=most * max(1, math.ceil(largest / own)), lane=lane))
    try:
        yield EngineProbe(engine, request)
    finally:
        engine.close()


def _choose_lane(
    pipeline: Pipeline,
    request: Request,
    design: Design,
    lanes: Sequence[Lane],
    progress: Callable[[int], None] | None,
) -> tuple[Lane, dict[str, float]]:
    """Lanes take turns, load by load."""
    if len(lanes) == 1:
        return lanes[0], {}
    with ExitStack() as engines:
        turns = {lane: engines.enter_context(_probe(pipeline, request, design, lane)) for lane in lanes}
        keys = [(lane, load) for lane in lanes for load in lane_loads(design)]
        samples = measure(keys, lambda key: turns[key[0]](key[1]), design.repeats, design.seed, progress)
    return best_lane(lanes, medians(samples))


def _decoder_figures(design: Design, times: Mapping[Load, Times]) -> dict[str, float]:
    """For each size: pictures that saturate a call of the decoder, and pictures a second of each batch."""
    figures = {}
    for size in design.sizes:
        alone = {load.decodings: times[load][1] for load in design.batches if load.size == size}
        figures[f"decoder_saturation_{size[1]}x{size[0]}"] = float(saturation(alone))
        figures |= {decoded_figure(size, v): v / seconds for v, seconds in alone.items()}
    return figures
