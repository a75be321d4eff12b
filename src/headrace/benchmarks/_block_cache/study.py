"""Part two of the benchmark: measures a trained model once, then compares all contestants on the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.benchmarks._block_cache.adjusted import train_scale_shift
from headrace.benchmarks._block_cache.field import field
from headrace.benchmarks._block_cache.quality import Comparison, Contestant, Quality, Reference, judge
from headrace.benchmarks._block_cache.setting import Setting
from headrace.benchmarks._prompts import PROMPTS
from headrace.benchmarks.embedded import EXCLUDED, spread_indices
from headrace.benchmarks.registry import BenchOptions
from headrace.evaluation.extractors.registry import ExtractorOptions, build_extractors
from headrace.models.pipelines.base import Pipeline
from headrace.models.row_call import Adjustment
from headrace.techniques.block_caching.artefact import Cached, Choice, cached_blocks
from headrace.techniques.block_caching.calibrate import Profile, measure_work, profile
from headrace.techniques.block_caching.displacement import Displacement, measure_displacement
from headrace.training.data import load_images
from headrace.training.tables.data import DataTable

BATCH = 16
CALIBRATION_PROMPTS, SEEDS, DISPLACED_IMAGES = 32, 2, 8
SCALE_SHIFT_DELTAS, SCALE_SHIFT_MINUTES = (0.2, 0.5), 4.0
EXTRACTOR = "cifar10-classifier"


@dataclass(frozen=True)
class Study:
    """What a setting came to."""

    setting: Setting
    profile: Profile
    qualities: Sequence[Quality]


def study(pipeline: Pipeline, setting: Setting, options: BenchOptions) -> Study:
    """Calibrates and compares. Raises `DataError` for the data."""
    found, displacements = calibrated(pipeline, setting, options.quick)
    adjusted = _adjusted(pipeline, setting, found) if setting.scale_shift else {}
    contestants = field(found, displacements, options.quick, adjusted)
    return Study(setting, found, _quality(pipeline, setting, contestants, options))


def calibrated(pipeline: Pipeline, setting: Setting, quick: bool) -> tuple[Profile, dict[Cached, Displacement]]:
    """Equation 6, and what it costs that all reuse together, with seeds that are not among those that are judged."""
    seeds = range(10_000, 10_000 + (1 if quick else SEEDS))
    requests = [setting.request(one, seed) for one in PROMPTS[: 4 if quick else CALIBRATION_PROMPTS] for seed in seeds]
    plan, work = setting.plan(pipeline), measure_work(pipeline, requests[0])
    few = requests[:: max(1, len(requests) // DISPLACED_IMAGES)]
    together: tuple[Cached, ...] = ("all", "branch")
    displacements = {
        kind: measure_displacement(pipeline, plan, few, cached_blocks(work, Choice(kind)), DISPLACED_IMAGES)
        for kind in together
    }
    return profile(pipeline, plan, requests, work, BATCH), displacements


def _adjusted(pipeline: Pipeline, setting: Setting, found: Profile) -> dict[float, Adjustment]:
    """Scale and shift by threshold, trained on the shipped prompts."""
    plan, requests = setting.plan(pipeline), [setting.request(prompt, 0) for prompt in PROMPTS]
    return {
        delta: train_scale_shift(pipeline, plan, requests, found, Choice(delta=delta), SCALE_SHIFT_MINUTES)
        for delta in SCALE_SHIFT_DELTAS
    }


def _quality(
    pipeline: Pipeline, setting: Setting, contestants: Sequence[Contestant], options: BenchOptions
) -> list[Quality]:
    reference = reference_of(pipeline, options, setting.pictures)
    captions = captions_of(reference, setting.pictures)
    counts = {contestant.peer.steps(setting.steps) for contestant in contestants}
    plans = {count: setting.plan(pipeline, count) for count in counts}
    comparison = Comparison(pipeline, [setting.request(caption, seed) for seed, caption in enumerate(captions)], BATCH)
    return judge(contestants, comparison.run(contestants, plans, setting.steps), reference)


def reference_of(pipeline: Pipeline, options: BenchOptions, wanted: int) -> Reference | None:
    """The data's pictures and so many of their captions, evenly spread; None where no data was given."""
    if options.data is None:
        return None
    height, _ = pipeline.default_size
    table = {"path": str(options.data), "exclude": EXCLUDED, "size": height}
    data = load_images(DataTable.model_validate(table))
    [extractor] = build_extractors(ExtractorOptions(names=[EXTRACTOR], device=options.device))
    return Reference(data, spread_indices(len(data), wanted), extractor)


def captions_of(reference: Reference | None, count: int) -> list[str]:
    """What is asked for: the reference's captions, or the shipped prompts in turn."""
    if reference is not None:
        return [reference.data.captions[index] for index in reference.chosen]
    return [PROMPTS[number % len(PROMPTS)] for number in range(count)]
