import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_recipes
from line import losses

from headrace.training.recipe import parse_recipe
from headrace.training.run import RunOptions, train

SECONDS = 240  # a few are enough on an idle machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(*arguments: str) -> None:
    """Two CPU processes of `two_processes.py`, all of which are ended after `SECONDS`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(free_port()), str(Path(__file__).with_name("two_processes.py")), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stderr=pipe, text=True, start_new_session=True)
    try:
        _, errors = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two processes, two parts each of one picture, beside one of a single process with four pictures."""
    out = tmp_path_factory.mktemp("processes")
    values = tiny_recipes.recipe(tiny_recipes.write_parquet(out / "shapes.parquet"))
    loop = values["phases"]["autoencoder"]["loop"]
    loop |= {"batch_size": 4}
    train(parse_recipe(values), RunOptions(out=out / "one", phase="autoencoder"))
    loop |= {"batch_size": 1, "gradient_accumulation_steps": 2}
    launch(str(tiny_recipes.write_toml(out / "tiny.toml", values)), str(out))
    return out


def test_two_processes_have_the_losses_of_one(folder):
    """Step by step, float32, to a relative tolerance of 1e-5: the order of sums differs, and nothing else."""
    one, two = (losses(folder / name / "autoencoder") for name in ("one", "recipe"))
    assert [step for step, _ in one] == [step for step, _ in two]
    assert len({loss for _, loss in one}) == 8
    np.testing.assert_allclose(*(np.array([loss for _, loss in run], float) for run in (two, one)), rtol=1e-5)


def test_a_nan_on_one_process_stops_both(folder):
    for rank in (0, 1):
        stopped = (folder / f"stopped-{rank}.txt").read_text()
        assert "not finite at step 7" in stopped
        assert "step-00000004" in stopped


def test_both_end_their_cycles_with_the_same_steps_though_their_clocks_differ(folder):
    first, second = (json.loads((folder / f"cycles-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["ends"] == [8, 16, 24]
