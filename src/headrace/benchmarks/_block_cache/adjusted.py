"""Scale and shift trained in the run itself, a few minutes for each schedule."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from headrace.models.pipelines.base import Pipeline
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.plan import Plan
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, Choice, solver_identity
from headrace.techniques.block_caching.calibrate import Profile
from headrace.techniques.block_caching.network import enable
from headrace.techniques.block_caching.scale_shift import FoldedScaleShift
from headrace.techniques.block_caching.scale_shift_file import FILE_NAME, load_scale_shift
from headrace.training.accelerator import make_accelerator
from headrace.training.objectives.scale_shift import ScaleShiftObjective
from headrace.training.tables.loop import LoopTable
from headrace.training.trainer import RunSettings, Trainer

MOST_TRAJECTORIES = 10_000  # the clock ends sooner
_BATCH, _LEARNING_RATE = 4, 3e-4


def train_scale_shift(
    pipeline: Pipeline, plan: Plan, requests: Sequence[Request], found: Profile, choice: Choice, minutes: float
) -> FoldedScaleShift:
    """What `headrace calibrate scale-shift` learns of a schedule in so many minutes. The pipeline is left as it was."""
    first = requests[0]
    artefact = BlockCacheArtefact.build(
        found, choice, model=pipeline.name, weights=pipeline_fingerprint(pipeline), solver=solver_identity(plan),
        steps=first.steps, solver_name=first.solver, guidance_scale=pipeline.guidance_scale(first),
    )  # fmt: skip
    loop = LoopTable.model_validate(
        {
            "steps": MOST_TRAJECTORIES, "batch_size": _BATCH, "learning_rate": _LEARNING_RATE, "warmup_steps": 10,
            "ema_decay": 0.98, "mixed_precision": "no", "log_every": 10, "sample_every": MOST_TRAJECTORIES,
            "checkpoint_every": MOST_TRAJECTORIES,
        }
    )  # fmt: skip
    decide = enable(pipeline, artefact)
    assert pipeline.row_cache is not None
    try:
        objective = ScaleShiftObjective(pipeline, decide(plan), artefact, requests)
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
            settings = RunSettings("scale-shift", Path(folder), seconds=60 * minutes)
            Trainer(objective, loop, settings, make_accelerator(loop)).run(Path(folder))
            averaged = load_scale_shift(Path(folder) / FILE_NAME, artefact)
        return FoldedScaleShift(averaged, plan.timestep, pipeline.device, pipeline.dtype)
    finally:
        pipeline.row_cache.remove()
        pipeline.row_cache = None
