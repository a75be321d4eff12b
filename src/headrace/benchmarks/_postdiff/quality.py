"""Part two: what the mechanisms cost in quality on a trained model, beside peers and fewer steps, in one run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.benchmarks._block_cache.quality import Comparison, Contestant, Pixels, Quality, judge
from headrace.benchmarks._block_cache.setting import Setting
from headrace.benchmarks._block_cache.study import captions_of, reference_of
from headrace.benchmarks._contestants import race
from headrace.benchmarks._peers import DeepCache, FasterDiffusion, FewerSteps, TGate, Uncached
from headrace.benchmarks._postdiff.ranking import agreements
from headrace.benchmarks._progress import bars
from headrace.benchmarks.registry import BenchOptions
from headrace.engine import Engine, EngineSettings
from headrace.models.pipelines.base import Pipeline
from headrace.request import Request
from headrace.techniques.block_caching.schedule import Schedule
from headrace.tuning.accelerated import accelerated
from headrace.tuning.settings import Settings

BATCH = 16
FEWER, QUICK_FEWER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), (0.5,)
DEEP_CACHE, QUICK_DEEP_CACHE = ((2, 0), (3, 0), (5, 0), (3, 1)), ((3, 0),)


@dataclass
class Accelerated:
    """Settings as a contestant, with the schedule of their block cache where they have one."""

    name: str
    group: str
    settings: Settings
    schedule: Schedule | None = None
    batches: list[Pixels] = field(default_factory=list)

    @property
    def pixels(self) -> Pixels:
        """Everything that was made."""
        return np.concatenate(self.batches)


@dataclass(frozen=True)
class Judgement:
    """Every contestant's quality, plain sampling first, and how well fewer pictures would have ranked ours."""

    qualities: list[Quality]
    agreement: dict[str, dict[int, float]]


def measure_quality(
    pipeline: Pipeline, setting: Setting, ours: Sequence[Accelerated], options: BenchOptions
) -> Judgement:
    """Plain sampling, `ours`, the peers that are installed, and fewer steps. Raises `DataError`."""
    reference = reference_of(pipeline, options, setting.pictures)
    captions = captions_of(reference, setting.pictures)
    requests = [setting.request(caption, seed) for seed, caption in enumerate(captions)]
    peers = _peers(options.quick)
    comparison = Comparison(pipeline, requests, BATCH)
    plans = {peer.name: setting.plan(pipeline, peer.peer.steps(setting.steps)) for peer in peers}
    comparison.warm_up(plans[peers[0].name])
    for one in ours:
        for _ in _turns(pipeline, Accelerated("", "", one.settings, one.schedule), requests[:2]):
            pass
    turns = {peer.name: comparison.turns(peer, plans[peer.name]) for peer in peers}
    turns |= {one.name: _turns(pipeline, one, requests) for one in ours}
    with bars() as show:
        seconds = race(turns, pipeline.device.type, show)
    qualities = judge([peers[0], *ours, *peers[1:]], seconds, reference)
    return Judgement(qualities, agreements([peers[0], *ours], reference))


def _turns(pipeline: Pipeline, contestant: Accelerated, requests: Sequence[Request]) -> Iterator[float]:
    """A batch a turn, through the engine."""
    settings = contestant.settings
    for start in range(0, len(requests), BATCH):
        asked = [
            request.model_copy(update={"solver": settings.solver, "steps": settings.steps})
            for request in requests[start : start + BATCH]
        ]
        with accelerated(pipeline, settings, contestant.schedule) as decide:
            results = Engine(pipeline, EngineSettings(slots=BATCH), decide=decide).generate(asked)
        contestant.batches.append(np.stack([np.asarray(result.image.convert("RGB")) for result in results]))
        yield min(1.0, (start + BATCH) / len(requests))


def _peers(quick: bool) -> list[Contestant]:
    """No cache first. The peers whose packages are not installed are left out."""
    peers = [Contestant(Uncached(), "plain")]
    peers += [Contestant(FewerSteps(share), "fewer steps") for share in (QUICK_FEWER if quick else FEWER)]
    peers.append(Contestant(FasterDiffusion(), "Faster Diffusion"))
    if importlib.util.find_spec("DeepCache") is not None:
        settings = QUICK_DEEP_CACHE if quick else DEEP_CACHE
        peers += [Contestant(DeepCache(interval, branch), "DeepCache") for interval, branch in settings]
    if importlib.util.find_spec("tgate") is not None:
        peers += [Contestant(TGate(gate), "T-GATE") for gate in ((10,) if quick else (6, 10, 14))]
    return peers


def margins(
    qualities: Sequence[Quality], ours: Collection[str], worth: Callable[[Quality], float]
) -> dict[str, float | None]:
    """For each other contestant: the best worth of ours that is at least as fast, less its own.

    Positive where ours is ahead, None where none of ours is as fast.
    """
    found: dict[str, float | None] = {}
    for other in qualities:
        if other.name in ours or other.group == "plain":
            continue
        rivals = [worth(one) for one in qualities if one.name in ours and one.latency <= other.latency]
        found[other.name] = round(max(rivals) - worth(other), 4) if rivals else None
    return found
