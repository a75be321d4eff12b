"""Scale and shift in the training loop: what is written, and that a resumed run repeats an unbroken one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from line import losses
from safetensors import safe_open

from headrace.engine import Engine, EngineSettings
from headrace.errors import TrainingError
from headrace.models.blocks import find_blocks
from headrace.models.pipelines.fingerprint import pipeline_fingerprint
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.block_caching.artefact import BlockCacheArtefact, solver_identity
from headrace.techniques.block_caching.network import enable
from headrace.techniques.block_caching.scale_shift_file import FILE_NAME, load_scale_shift
from headrace.training.accelerator import make_accelerator
from headrace.training.objectives.scale_shift import ScaleShiftObjective
from headrace.training.tables.loop import LoopTable
from headrace.training.trainer import RunSettings, Trainer

ROWS = 3
LOOP = {"batch_size": 2, "learning_rate": 2e-4, "warmup_steps": 1, "ema_decay": 0.5, "mixed_precision": "no"}
LOOP |= {"log_every": 1, "checkpoint_every": 2, "sample_every": 100}


class Breaking(ScaleShiftObjective):
    """A NaN in the loss of this call."""

    broken_at = 0
    calls = 0

    def forward(self, batch):
        self.calls += 1
        found = super().forward(batch)
        return {"loss": found["loss"] * float("nan")} if self.calls == self.broken_at else found


def objective(folder) -> Breaking:
    pipeline = load(folder)
    requests = [Request(prompt=text, steps=ROWS, solver="ddim", guidance_scale=3.0) for text in ("apple", "boat")]
    plan = Engine(pipeline, EngineSettings(slots=1)).plan(requests[0])
    blocks = find_blocks(pipeline.network, "transformer")
    nothing = ((0.0,) * len(blocks),) * (ROWS - 1)
    artefact = BlockCacheArtefact(
        model="tiny", weights=pipeline_fingerprint(pipeline), solver=solver_identity(plan), steps=ROWS,
        solver_name="ddim", guidance_scale=3.0, images=1, delta=0.5, saving=0.2, blocks=blocks,
        timesteps=tuple(plan.timestep.tolist()), compute=("#" * len(blocks),) + ("." * len(blocks),) * (ROWS - 1),
        profiled=blocks, kinds=("transformer",) * len(blocks), macs=(1,) * len(blocks), network_macs=10,
        change=nothing, deviation=nothing,
    )  # fmt: skip
    decide = enable(pipeline, artefact)
    return Breaking(pipeline, decide(plan), artefact, requests)


def trainer(out, own, resume=False, **values) -> Trainer:
    loop = LoopTable.model_validate({**LOOP, **values})
    return Trainer(own, loop, RunSettings("run", out, seed=1, resume=resume), make_accelerator(loop))


def test_a_run_writes_what_it_learnt_beside_the_schedule(tmp_path, tiny_model):
    own = objective(tiny_model("sd1"))
    assert own.scores()["distance"] == pytest.approx(1.0)
    trainer(tmp_path, own, steps=12).run(tmp_path)
    found = load_scale_shift(tmp_path / FILE_NAME, own.artefact)
    assert any(parameter.abs().max() > 0 for parameter in found.parameters())
    with safe_open(tmp_path / FILE_NAME, "pt") as file:
        assert '"distance": 0.' in file.metadata()["figures"]
    values = [float(loss) for _, loss in losses(tmp_path / "run")]
    assert len(values) == 12
    assert np.mean(values[-3:]) < np.mean(values[:3])
    assert (tmp_path / "run" / "loss.png").stat().st_size > 0
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["step-00000012.png"]
    assert own.pipeline.row_cache.adjustment is None


def test_a_nan_stops_it_and_a_resumed_run_repeats_the_losses_of_an_unbroken_one(tmp_path, tiny_model):
    whole, broken, resumed = (objective(tiny_model("sd1")) for _ in range(3))
    trainer(tmp_path / "whole", whole, steps=5).run(tmp_path / "whole")
    broken.broken_at = 4
    with pytest.raises(TrainingError, match="not finite at step 4"):
        trainer(tmp_path / "broken", broken, steps=5).run(tmp_path / "broken")
    assert not (tmp_path / "broken" / FILE_NAME).exists()
    trainer(tmp_path / "broken", resumed, resume=True, steps=5).run(tmp_path / "broken")
    assert resumed.calls == 3
    assert losses(tmp_path / "broken" / "run") == losses(tmp_path / "whole" / "run")
    for mine, expected in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, expected)
