"""The training loop: knows steps, time and files, and nothing of what is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from headrace.errors import TrainingError
from headrace.files import write_file
from headrace.training.board import Board
from headrace.training.checkpoint import Checkpoint, Progress, checkpoints, newest_checkpoint, save_checkpoint
from headrace.training.curve import plot_curve
from headrace.training.cycles import cycles_ended
from headrace.training.export import export_pipeline, is_complete
from headrace.training.learning_rate import learning_rate
from headrace.training.log import TrainingLog
from headrace.training.objectives.objective import Objective
from headrace.training.progress import Display
from headrace.training.resumption import check_recipe
from headrace.training.split import Split
from headrace.training.tables.loop import LoopTable
from headrace.training.weights import Update, Weights
from headrace.training.work import described, training_macs

_MOST_SKIPPED = 50


@dataclass(frozen=True)
class RunSettings:
    """What belongs to one run of a phase rather than to its loop.

    `seconds`: length the phase is fitted into. `recipe`: nested values in JSON's types, recorded in each checkpoint.
    """

    name: str
    out: Path
    seed: int = 0
    seconds: float | None = None
    resume: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Done:
    """A step that was made and not yet looked at: reading a loss waits for the device."""

    progress: Progress
    update: Update
    rate: float


class Trainer:
    """Runs one phase: updates, log, checkpoints, samples, export.

    Data order and noise of a step follow from (seed, step) alone, so a killed run that resumes has the same losses as
    one that was not killed. With `seconds` the decay of the learning rate follows the clock instead of the step count
    (it must end when the time does), and only then depends on the machine.

    Raises `TrainingError` for a folder that holds another run, and for checkpoints that cannot be continued from.
    """

    def __init__(self, objective: Objective, loop: LoopTable, settings: RunSettings, accelerator: Accelerator) -> None:
        self.objective, self.loop, self.settings, self.accelerator = objective, loop, settings, accelerator
        processes, process = accelerator.num_processes, accelerator.process_index
        self.split = Split(loop.batch_size, loop.gradient_accumulation_steps, processes, process)
        self.folder = settings.out / settings.name
        self.display = Display(settings.name, loop.steps, accelerator.is_main_process)
        if objective.stops_early and processes > 1:
            raise TrainingError(
                f"phase {settings.name!r}: a network is to stop early, and {processes} processes learn it together",
                "Train with one process, or leave patience out",
            )
        self.weights = Weights(objective, loop, accelerator)
        self.progress = self._resume() if settings.resume else self._begin()
        self.weights.hold()
        self.log = TrainingLog(self.folder / "log.csv", self.progress.step)
        self.board = Board(self.folder / "tensorboard", self.progress.step) if self._has_board() else None
        self._unchecked: list[_Done] = []
        self._skipped = 0
        self._started = time.monotonic() - self.progress.seconds
        self._window = (self.progress.step, time.monotonic())

    def run(self, model_folder: Path) -> Progress:
        """Train to the end (of steps or time), exporting the averaged weights into `model_folder`."""
        self.display.begin(self._fraction())
        sampled = None
        with self.display:
            while self.progress.step < self.loop.steps and not self._out_of_time() and not self.objective.over:
                self.step()
                step = self.progress.step
                if step % self.loop.log_every == 0:
                    loss = self.write_down()
                    self.display.update(step, loss, self._fraction(), self._images_per_second())
                if step % self.loop.sample_every == 0:
                    self._sample(model_folder)
                    sampled = step
                if step % self.loop.checkpoint_every == 0:
                    self._checkpoint()
            self._checkpoint()
            if sampled != self.progress.step:
                self._sample(model_folder)
                if self.objective.stops_early:  # what the last scores have decided
                    self._checkpoint()
            work = self.objective.work(self.progress.step)
            if work:
                self.display.say(described(work, self.split.images))
        if self.board is not None:
            self.board.close()
        return self.progress

    def step(self) -> None:
        """One update of the weights, not yet looked at. Raises `TrainingError` when fp16 skips one after another."""
        step, before = self.progress.step, self._fraction()
        rate = learning_rate(self.loop, step, before)
        parts = self.split.batches(self.objective, self.settings.seed, step, self.accelerator.device)
        update = self.weights.update(parts, rate)
        self.progress = replace(self.progress, step=step + 1, seconds=self._clock())
        self._end_cycle(before)
        updates, ends = self.weights.average.optimization_step, self.weights.cycle_mean.ends
        self.progress = replace(self.progress, average_updates=updates, cycle_ends=ends)
        self._unchecked.append(_Done(self.progress, update, rate))
        self._skipped = self._skipped + 1 if update.skipped else 0
        if self._skipped >= _MOST_SKIPPED:
            self.write_down()
            raise self._broken(f"the gradients of {_MOST_SKIPPED} steps one after another overflow fp16, to", step + 1)

    def _end_cycle(self, before: float) -> None:
        """Ends a cycle of several when the last step, begun at `before` of the phase, was its last."""
        cycles = self.loop.cycles
        ended = cycles_ended(cycles, self._fraction())
        if cycles > 1 and ended > cycles_ended(cycles, before):
            self.weights.end_cycle()
            self.display.say(f"step {self.progress.step}: cycle {ended} of {cycles} has ended")

    def write_down(self) -> float:
        """Check and log the steps since the last time; their mean loss. Raises `TrainingError` where it is a NaN.

        What is logged and checked is the mean over the processes, so all of them stop together.
        """
        unchecked, self._unchecked = self._unchecked, []
        if not unchecked:
            return math.nan
        names = [*unchecked[0].update.losses, "gradient_norm"]
        rows = [torch.stack([*done.update.losses.values(), done.update.norm]).float() for done in unchecked]
        values: list[list[float]] = self.accelerator.reduce(torch.stack(rows), "mean").tolist()
        for done, row in zip(unchecked, values, strict=True):
            figures = dict(zip(names, row, strict=True))
            if not math.isfinite(figures["loss"]) or not (done.update.skipped or math.isfinite(row[-1])):
                raise self._broken("the loss or its gradient is not finite at", done.progress.step)
            figures |= {"learning_rate": done.rate, "seconds": done.progress.seconds}
            work = self.objective.work(done.progress.step)
            if work:
                figures["training_tmac"] = training_macs(work, self.split.images) / 1e12
            self._add(done.progress.step, figures)
        return sum(row[names.index("loss")] for row in values) / len(values)

    def _add(self, step: int, figures: Mapping[str, float]) -> None:
        self.log.add(step, figures)
        if self.board is not None:
            self.board.add(step, figures)

    def _broken(self, what: str, step: int) -> TrainingError:
        good = checkpoints(self.folder / "checkpoints")
        where = f"the last good checkpoint is {str(good[-1])!r}" if good else "there is no checkpoint yet"
        if self.accelerator.is_main_process:
            self.log.save()
        problem = f"phase {self.settings.name!r}: {what} step {step}; {where}"
        return TrainingError(problem, "Lower the learning rate or use bf16, then continue with --resume")

    def _checkpoint(self) -> None:
        """Never of weights whose losses were not checked, and never ahead of the log (a kill may come in between)."""
        self.write_down()
        if self.accelerator.is_main_process:
            self.log.save()
            work = self.objective.work(self.progress.step)
            checkpoint = Checkpoint(self.progress, self.weights.learned(), self._recipe(), work)
            save_checkpoint(self.folder / "checkpoints", checkpoint, self.loop.keep_checkpoints)
        self._window = (self.progress.step, time.monotonic())

    def _sample(self, model_folder: Path) -> None:
        """Scores, a grid of samples and the export, all with the averaged weights or the mean of the cycles' ends."""
        self.write_down()
        if self.accelerator.is_main_process:
            step = self.progress.step
            with self.weights.averaged():
                scores = self.objective.scores()
                decided = self.objective.judge(step, scores)
                grid = self.objective.sample_grid()
                self.objective.export(model_folder)
            if self.loop.keep_models and is_complete(model_folder):
                export_pipeline(model_folder, self.folder / "models" / f"step-{step:08d}")
            write_file(self.folder / "samples" / f"step-{step:08d}.png", grid.save)
            self._add(step, scores)
            if self.board is not None:
                self.board.show(step, grid)
            self.log.save()
            plot_curve(self.log, self.folder / "loss.png", self.settings.name, tuple(scores), self.split.images)
            shown = ", ".join(f"{key} {value:.3f}" for key, value in scores.items()) or "no scores"
            self.display.say(f"step {step}: {shown}; samples in {self.folder / 'samples'}")
            for line in decided:
                self.display.say(line)
            self.weights.hold()
        self._window = (self.progress.step, time.monotonic())

    def _clock(self) -> float:
        """Seconds spent: the first process's where they decide, so that all take the same rate and end together."""
        seconds = time.monotonic() - self._started
        if self.settings.seconds is None or self.accelerator.num_processes == 1:
            return seconds
        shared = torch.tensor([seconds], dtype=torch.float64, device=self.accelerator.device)
        return float(broadcast(shared, from_process=0).item())

    def _fraction(self) -> float:
        """Of the phase that is done, by steps or, where the time is given, by whichever ends first."""
        by_steps = self.progress.step / self.loop.steps
        if self.settings.seconds is None:
            return by_steps
        return min(1.0, max(by_steps, self.progress.seconds / self.settings.seconds))

    def _out_of_time(self) -> bool:
        return self.settings.seconds is not None and self.progress.seconds >= self.settings.seconds

    def _images_per_second(self) -> float:
        """Of the steps alone, on all processes, since the last call, sample or checkpoint."""
        (before, then), self._window = self._window, (self.progress.step, time.monotonic())
        return (self.progress.step - before) * self.split.images / max(self._window[1] - then, 1e-9)

    def _has_board(self) -> bool:
        return self.loop.tensorboard and self.accelerator.is_main_process

    def _recipe(self) -> dict[str, Any]:
        """What a resumed run is compared with."""
        own = {"seed": self.settings.seed, "images_a_step": self.split.images, "items": self.objective.item_count()}
        return {**own, **self.settings.recipe}

    def _begin(self) -> Progress:
        """A new run, in a folder without one."""
        if checkpoints(self.folder / "checkpoints"):
            raise TrainingError(
                f"{str(self.folder)!r} holds the checkpoints of a run",
                "Continue it with --resume, or use another --out",
            )
        return Progress()

    def _resume(self) -> Progress:
        """From the newest checkpoint, or from the start when there is none."""
        found = newest_checkpoint(self.folder / "checkpoints", self.display.say)
        if found is None:
            return Progress()
        changed = check_recipe(found.recipe, self._recipe())
        self.weights.restore(found.learned, found.progress)
        for line in changed:
            self.display.say(f"resumed with another recipe: {line}")
        return replace(found.progress, cycle_ends=self.weights.cycle_mean.ends)
