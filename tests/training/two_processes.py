"""What `test_two_processes.py` launches: a recipe's phase, and then a run that one process alone breaks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from line import Line, trainer

from headrace.errors import TrainingError
from headrace.training.recipe import load_recipe
from headrace.training.run import RunOptions, train


def main(recipe: Path, out: Path) -> None:
    rank = int(os.environ["RANK"])
    train(load_recipe(recipe), RunOptions(out=out / "recipe", phase="autoencoder"))
    try:
        trainer(out / "broken", Line(broken_at=7 if rank == 1 else None), steps=20).run(out / "model")
    except TrainingError as error:
        (out / f"stopped-{rank}.txt").write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
