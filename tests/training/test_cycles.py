"""Cycles: where they end, and runs of several of them."""

import csv

import pytest
import torch
from line import Line, losses, trainer

from headrace.errors import TrainingError
from headrace.training.checkpoint import checkpoints, read_checkpoint
from headrace.training.cycles import cycle_at, cycles_ended

NEVER = 10**9
THREE = {"steps": 24, "cycles": 3, "ema_decay": 0.9, "checkpoint_every": 4}


def rates(folder):
    with (folder / "log.csv").open() as file:
        return [float(row["learning_rate"]) for row in csv.DictReader(file)]


def run_step_by_step(run):
    """Averaged weights at each end of a cycle, by the step that ended it."""
    ends = {}
    before = run.weights.end_cycle

    def end_cycle():
        ends[run.progress.step] = run.weights.average.shadow_params[0].clone()
        before()

    run.weights.end_cycle = end_cycle
    run.run(run.folder / "model")
    return ends


@pytest.mark.parametrize("cycles", [1, 2, 3, 7, 49])
def test_a_cycle_ends_with_the_step_that_completes_its_share(cycles):
    for steps in range(cycles, 200):
        ended = [cycles_ended(cycles, step / steps) for step in range(steps + 1)]
        assert ended == [step * cycles // steps for step in range(steps + 1)]


def test_the_place_in_a_cycle():
    assert cycle_at(3, 0.0) == (0, 0.0)
    assert cycle_at(3, 0.5) == (1, pytest.approx(0.5))
    assert cycle_at(4, 0.75) == (3, 0.0)
    assert cycle_at(3, 1.0) == (2, 1.0)
    assert cycle_at(3, 1.4) == (2, 1.0)
    assert cycle_at(1, 0.3) == (0, 0.3)


def test_the_mean_of_the_cycles_ends_is_exported(tmp_path):
    line = Line()
    run = trainer(tmp_path, line, **THREE, sample_every=4)
    ends = run_step_by_step(run)
    assert list(ends) == [8, 16, 24]
    first, second, third = (value.item() for value in ends.values())
    assert len({first, second, third}) == 3
    mean_of_two, mean_of_three = (first + second) / 2, (first + second + third) / 3
    # Samples at 4, 8, ..., 24: averaged weights before the first end, then the ends so far.
    assert line.exported[0] not in (first, second, third)
    assert line.exported[1:] == pytest.approx([first, first, mean_of_two, mean_of_two, mean_of_three])
    logged = [row["weight"] for row in run.log.rows if "weight" in row]
    assert logged == line.exported
    assert line.weight.item() != pytest.approx(line.exported[-1])


def test_the_average_of_a_cycle_holds_nothing_of_the_cycle_before(tmp_path):
    """Its first update after an end replaces it, as at the start of a phase, and the same in the checkpoint there."""
    line = Line()
    run = trainer(tmp_path, line, **THREE, sample_every=NEVER)
    for _ in range(8):
        run.step()
    assert run.progress.average_updates == 0
    average = run.weights.average.shadow_params[0]
    assert not torch.equal(average, line.weight)
    run.step()
    assert torch.equal(average, line.weight)
    assert run.progress.average_updates == 1


def test_one_cycle_leaves_no_mean_behind(tmp_path):
    line = Line()
    run = trainer(tmp_path, line, steps=24, ema_decay=0.9, sample_every=24)
    assert run_step_by_step(run) == {}
    assert line.exported == [run.weights.average.shadow_params[0].item()]
    newest = checkpoints(tmp_path / "line" / "checkpoints")[-1]
    assert not (newest / "cycle_mean.safetensors").exists()
    assert run.progress.average_updates == 24


@pytest.mark.parametrize("broken_at", [7, 9, 11, 15, 18, 23])
def test_a_run_that_breaks_off_in_any_cycle_resumes_to_the_same_curve_and_export(tmp_path, broken_at):
    """At 9 and 18 it goes on from the very end of a cycle."""
    whole, resumed = Line(), Line()
    split = {**THREE, "sample_every": 24}
    trainer(tmp_path / "whole", whole, **split).run(tmp_path / "model")
    with pytest.raises(TrainingError, match="not finite"):
        trainer(tmp_path / "broken", Line(broken_at=broken_at), **split).run(tmp_path / "model")
    trainer(tmp_path / "broken", resumed, resume=True, **split).run(tmp_path / "model")
    folders = [tmp_path / name / "line" for name in ("whole", "broken")]
    assert losses(folders[0]) == losses(folders[1])
    assert rates(folders[0]) == rates(folders[1])
    assert resumed.exported == whole.exported
    kept = [read_checkpoint(checkpoints(folder / "checkpoints")[-1]) for folder in folders]
    assert [found.progress.cycle_ends for found in kept] == [3, 3]
    assert torch.equal(kept[0].learned.cycle_mean["weight"], kept[1].learned.cycle_mean["weight"])


def test_by_the_clock_cycles_take_equal_times_also_after_a_break(tmp_path, monkeypatch):
    """A second a step in the first cycle and a half after it: 4, 8 and 8 steps for four seconds each."""
    now = [0.0]
    monkeypatch.setattr("headrace.training.trainer.time.monotonic", lambda: now[0])

    class Slow(Line):
        def forward(self, batch):
            now[0] += 1.0 if now[0] < 4.0 else 0.5
            return super().forward(batch)

    timed = {"steps": NEVER, "seconds": 12.0, "cycles": 3, "cycle_decay": 0.5, "warmup_steps": 0}
    timed |= {"sample_every": NEVER, "checkpoint_every": 5}
    with pytest.raises(TrainingError, match="not finite at step 11"):
        trainer(tmp_path, Slow(broken_at=11), **timed).run(tmp_path / "model")
    now[0] = 4.5  # five steps in, where the last checkpoint but one of the run above was made
    for path in checkpoints(tmp_path / "line" / "checkpoints")[1:]:
        (path / "weights.safetensors").unlink()
    run = trainer(tmp_path, Slow(), resume=True, **timed)
    assert run.progress.cycle_ends == 1
    assert list(run_step_by_step(run)) == [12, 20]
    assert run.progress.cycle_ends == 3
    curve = rates(tmp_path / "line")
    assert len(curve) == 20
    assert [curve[step] for step in (0, 4, 12)] == pytest.approx([0.05, 0.025, 0.0125])
    assert [curve[step] for step in (2, 8, 16)] == pytest.approx([0.025, 0.0125, 0.00625])
    assert [step for step in range(1, 20) if curve[step] > curve[step - 1]] == [4, 12]


def test_a_damaged_mean_is_a_damaged_checkpoint(tmp_path, capfd):
    trainer(tmp_path, Line(), **THREE).run(tmp_path / "model")
    older, newest = checkpoints(tmp_path / "line" / "checkpoints")
    (newest / "cycle_mean.safetensors").unlink()
    run = trainer(tmp_path, Line(), resume=True, **THREE)
    assert "step-00000024' is damaged" in " ".join(capfd.readouterr().err.split())
    assert (run.progress.step, run.progress.cycle_ends) == (20, 2)
    assert older.name == "step-00000020"


def test_with_one_cycle_from_here_on_the_mean_is_left_out(tmp_path):
    trainer(tmp_path, Line(), **THREE).run(tmp_path / "model")
    line = Line()
    run = trainer(tmp_path, line, resume=True, **{**THREE, "cycles": 1, "steps": 32})
    assert run.progress.cycle_ends == 0
    run.run(tmp_path / "model")
    assert line.exported[-1] == run.weights.average.shadow_params[0].item()
    assert read_checkpoint(checkpoints(tmp_path / "line" / "checkpoints")[-1]).learned.cycle_mean == {}
