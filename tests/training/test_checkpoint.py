import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_recipes
import torch
from line import Line, losses, trainer
from safetensors.torch import load_file, save_file

from headrace.errors import OutputError
from headrace.training.checkpoint import Checkpoint, Learned, Progress, checkpoints, read_checkpoint, save_checkpoint


def learned(value: float, elements: int = 4) -> Learned:
    tensors = {"weight": torch.full((elements,), value)}
    return Learned(weights=tensors, average=tensors, optimizer={}, loss_scale={"scale": 512.0})


def test_what_is_written_comes_back(tmp_path):
    path = save_checkpoint(tmp_path, Checkpoint(Progress(7, 1.5, 6), learned(0.25), {"seed": 3}), keep=1)
    found = read_checkpoint(path)
    assert (found.progress, found.recipe) == (Progress(7, 1.5, 6), {"seed": 3})
    assert found.learned.weights["weight"].tolist() == [0.25] * 4
    assert found.learned.loss_scale == {"scale": 512.0}


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    """A limit on the size of files stands in for the disk: writes beyond it fail in the same way."""
    save_checkpoint(tmp_path, Checkpoint(Progress(1), learned(1.0)), keep=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match="step-00000002' cannot be written"):
            save_checkpoint(tmp_path, Checkpoint(Progress(2), learned(2.0, 100_000)), keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert read_checkpoint(tmp_path / "step-00000001").learned.weights["weight"].tolist() == [1.0] * 4


def test_checkpoints_of_the_first_format_are_continued(tmp_path):
    """It numbered the parameters, and recorded neither buffers nor the recipe."""
    trainer(tmp_path, Line(), steps=8).run(tmp_path / "model")
    complete = losses(tmp_path / "line")
    newest = checkpoints(tmp_path / "line" / "checkpoints")[-1]
    old = checkpoints(tmp_path / "line" / "checkpoints")[0]
    for path in newest.iterdir():
        path.unlink()
    for name in ("weights", "average", "optimizer"):
        numbered = {key.replace("weight", "0"): value for key, value in load_file(old / f"{name}.safetensors").items()}
        assert all(key.startswith("0") for key in numbered)
        save_file(numbered, newest / f"{name}.safetensors")
    content = json.loads((old / "progress.json").read_text())
    first = {key: content[key] for key in ("step", "seconds", "average_updates")}
    (newest / "progress.json").write_text(json.dumps(first))
    run = trainer(tmp_path, Line(), resume=True, steps=8)
    assert run.progress.step == 4
    run.run(tmp_path / "model")
    assert losses(tmp_path / "line") == complete


@pytest.mark.parametrize(("parts", "cycles"), [(1, 1), (2, 3)])
def test_a_killed_run_continues_with_the_same_losses(tmp_path, parquet, parts, cycles):
    """The whole command, autoencoder phase, killed with SIGKILL after a checkpoint; of three cycles in a later one."""
    values = tiny_recipes.recipe(parquet)
    loop = {"steps": 24, "sample_every": 24, "gradient_accumulation_steps": parts, "cycles": cycles}
    values["phases"]["autoencoder"]["loop"] |= loop
    recipe = tiny_recipes.write_toml(tmp_path / "tiny.toml", values)
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "train", str(recipe)]
    command += ["--phase", "autoencoder", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    process = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    folder = tmp_path / "killed" / "autoencoder"
    kept_at = {1: "step-00000004", 3: "step-00000008"}[cycles]
    while not any(path.name >= kept_at for path in checkpoints(folder / "checkpoints")):
        assert process.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(losses(folder)) < 24
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True, env=environment, capture_output=True)
    assert losses(folder) == losses(tmp_path / "whole" / "autoencoder")
    assert np.isfinite([float(loss) for _, loss in losses(folder)]).all()
    exported = "model/vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "killed" / exported).read_bytes() == (tmp_path / "whole" / exported).read_bytes()
