"""Loss scaling is tried on a CPU, where the same scaler and optimiser work, in float32: what it decides is the same."""

import pytest
import torch
from accelerate.state import AcceleratorState
from line import Line, trainer
from torch.amp import GradScaler

from headrace.errors import TrainingError
from headrace.training.checkpoint import checkpoints, read_checkpoint
from headrace.training.weights import Weights


@pytest.fixture
def scaled(monkeypatch):
    """Trainers with fp16's loss scaling."""
    make = Weights.__init__

    def make_scaled(self, objective, loop, accelerator):
        accelerator.scaler = GradScaler("cpu", init_scale=1024.0)
        accelerator.native_amp = True
        accelerator.state._mixed_precision = "fp16"
        make(self, objective, loop, accelerator)

    monkeypatch.setattr(Weights, "__init__", make_scaled)
    yield
    AcceleratorState._reset_state()


class Once(Line):
    """Its gradient overflows in the calls of `where`, its loss does not."""

    def __init__(self, where=()):
        super().__init__()
        self.where = where
        self.weight.register_hook(lambda gradient: gradient * (float("inf") if self.calls in self.where else 1.0))


def test_a_step_that_overflows_moves_nothing_and_the_scale_comes_down(scaled, tmp_path):
    line = Once(where={5})
    run = trainer(tmp_path, line, steps=8, sample_every=100, checkpoint_every=4)
    weights = []
    for _ in range(8):
        run.step()
        weights.append(line.weight.item())
    run.write_down()
    assert weights[4] == weights[3]
    assert weights[5] != weights[4]
    assert run.progress.average_updates == 7
    assert run.accelerator.scaler.get_scale() == 512.0
    assert run.weights.optimizer.optimizer.state_dict()["state"][0]["step"].item() == 7
    assert run.log.rows[4]["gradient_norm"] == float("inf")


def test_the_scale_is_in_the_checkpoint(scaled, tmp_path):
    trainer(tmp_path, Once(where={2}), steps=4).run(tmp_path / "model")
    newest = checkpoints(tmp_path / "line" / "checkpoints")[-1]
    assert read_checkpoint(newest).learned.loss_scale["scale"] == 512.0
    resumed = trainer(tmp_path, Once(), resume=True, steps=8)
    assert resumed.accelerator.scaler.get_scale() == 512.0
    assert resumed.progress.average_updates == 3


def test_many_skipped_steps_in_a_row_stop_the_run(scaled, tmp_path):
    line = Once(where=set(range(10, 1000)))
    with pytest.raises(TrainingError, match=r"50 steps one after another overflow fp16, to step 59; .*step-00000056"):
        trainer(tmp_path, line, steps=100, checkpoint_every=8, keep_checkpoints=100).run(tmp_path / "model")
    assert torch.isfinite(line.weight).all()
