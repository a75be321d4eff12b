"""What `test_two_processes.py` launches: a recipe's phase, cycles by the clock, a run that one process alone breaks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from line import Line, trainer

from headrace.errors import TrainingError
from headrace.training.recipe import load_recipe
from headrace.training.run import RunOptions, train


def main(recipe: Path, out: Path) -> None:
    rank = int(os.environ["RANK"])
    train(load_recipe(recipe), RunOptions(out=out / "recipe", phase="autoencoder"))
    ends_of_cycles(out, rank)
    try:
        trainer(out / "broken", Line(broken_at=7 if rank == 1 else None), steps=20).run(out / "model")
    except TrainingError as error:
        (out / f"stopped-{rank}.txt").write_text(str(error), encoding="utf-8")


def ends_of_cycles(out: Path, rank: int) -> None:
    """Three cycles in 3 s, with steps of 1/8 s by the first process's clock and twice that by the other's."""
    now, ends = 0.0, []
    with patch("headrace.training.trainer.time", SimpleNamespace(monotonic=lambda: now)):
        run = trainer(out / "cycles", Line(), seconds=3.0, steps=10**9, cycles=3)
        while not run._out_of_time():
            now += 0.125 * (1 + rank)
            run.step()
            if run.progress.cycle_ends > len(ends):
                ends.append(run.progress.step)
    found = {"ends": ends, "mean": run.weights.cycle_mean.tensors[0].tolist()}
    (out / f"cycles-{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
