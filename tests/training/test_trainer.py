import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_recipes
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from headrace.errors import TrainingError
from headrace.training.checkpoint import checkpoints
from headrace.training.objectives.objective import Objective
from headrace.training.tables.loop import LoopTable
from headrace.training.trainer import RunSettings, Trainer


class Line(Objective):
    """Fits y = 2x with one weight; `broken_at` makes the loss of that call a NaN."""

    def __init__(self, broken_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.broken_at, self.calls, self.exported = broken_at, 0, []

    def batch(self, indices):
        return {"x": torch.from_numpy(indices).float() / 10}

    def draws(self, count, generator):
        return {"noise": 0.01 * torch.randn(count, generator=generator)}

    def forward(self, batch):
        self.calls += 1
        loss = (self.weight * batch["x"] - 2 * batch["x"] + batch["noise"]).square().mean()
        return {"loss": loss * float("nan") if self.calls == self.broken_at else loss}

    def item_count(self):
        return 10

    def sample_grid(self):
        return Image.new("RGB", (4, 4))

    def scores(self):
        return {"weight": self.weight.item()}

    def export(self, folder):
        self.exported.append(self.weight.item())


def trainer(folder, objective, resume=False, seconds=None, **values):
    loop = LoopTable.model_validate({**tiny_recipes.LOOP, "learning_rate": 0.05, **values})
    settings = RunSettings("line", folder, seed=1, seconds=seconds, resume=resume)
    return Trainer(objective, loop, settings, Accelerator(cpu=True))


def losses(folder):
    with (folder / "log.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def test_it_learns_logs_plots_and_exports_the_averaged_weights(tmp_path):
    line = Line()
    trainer(tmp_path, line, steps=200, ema_decay=0.5, sample_every=100).run(tmp_path / "model")
    assert line.weight.item() == pytest.approx(2.0, abs=0.1)
    assert line.exported[-1] == pytest.approx(2.0, abs=0.1)
    assert line.exported[-1] != line.weight.item()
    steps = losses(tmp_path / "line")
    assert len(steps) == 200
    assert float(steps[-1][1]) < float(steps[0][1])
    assert Image.open(tmp_path / "line" / "loss.png").width > 300
    assert sorted(path.name for path in (tmp_path / "line" / "samples").iterdir())[0] == "step-00000100.png"


def test_only_the_last_checkpoints_are_kept(tmp_path):
    trainer(tmp_path, Line(), steps=20, checkpoint_every=5, keep_checkpoints=2).run(tmp_path / "model")
    assert [path.name for path in checkpoints(tmp_path / "line" / "checkpoints")] == ["step-00000015", "step-00000020"]


def test_a_nan_stops_with_the_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"not finite at step 7; .*step-00000004"):
        trainer(tmp_path, Line(broken_at=7), steps=20).run(tmp_path / "model")
    trainer(tmp_path, Line(), resume=True, steps=20).run(tmp_path / "model")
    assert len(losses(tmp_path / "line")) == 20


def test_a_resumed_run_repeats_the_losses_of_an_unbroken_one(tmp_path):
    trainer(tmp_path / "whole", Line(), steps=20).run(tmp_path / "model")
    with pytest.raises(TrainingError):
        trainer(tmp_path / "broken", Line(broken_at=11), steps=20).run(tmp_path / "model")
    trainer(tmp_path / "broken", Line(), resume=True, steps=20).run(tmp_path / "model")
    assert losses(tmp_path / "broken" / "line") == losses(tmp_path / "whole" / "line")


def test_the_clock_ends_a_run_and_brings_the_rate_down(tmp_path):
    run = trainer(tmp_path, Line(), steps=10**9, seconds=1.0, sample_every=10**9, checkpoint_every=10**9)
    began = time.monotonic()
    run.run(tmp_path / "model")
    assert time.monotonic() - began < 10
    assert 1.0 <= run.progress.seconds < 2.0
    assert run.optimizer.param_groups[0]["lr"] < 0.005


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    trainer(tmp_path, Line(), steps=4).run(tmp_path / "model")
    other = Line()
    other.weight = nn.Parameter(torch.zeros(3))
    with pytest.raises(TrainingError, match="another network"):
        trainer(tmp_path, other, resume=True, steps=8)


def test_a_damaged_checkpoint_is_named(tmp_path):
    trainer(tmp_path, Line(), steps=4).run(tmp_path / "model")
    weights = checkpoints(tmp_path / "line" / "checkpoints")[-1] / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(TrainingError, match="damaged"):
        trainer(tmp_path, Line(), resume=True, steps=8)


def test_a_killed_run_continues_with_the_same_losses(tmp_path, parquet):
    """The whole command, autoencoder phase, killed with SIGKILL after a checkpoint."""
    values = tiny_recipes.recipe(parquet)
    values["phases"]["autoencoder"]["loop"] |= {"steps": 24, "sample_every": 24}
    recipe = tiny_recipes.write_toml(tmp_path / "tiny.toml", values)
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "train", str(recipe)]
    command += ["--phase", "autoencoder", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    process = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    folder = tmp_path / "killed" / "autoencoder"
    while not checkpoints(folder / "checkpoints"):
        assert process.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(losses(folder)) < 24
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True, env=environment, capture_output=True)
    assert losses(folder) == losses(tmp_path / "whole" / "autoencoder")
    assert np.isfinite([float(loss) for _, loss in losses(folder)]).all()
