"""The training loop: knows steps, time and files, and nothing of what is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel

from headrace.errors import TrainingError
from headrace.files import write_file
from headrace.training.checkpoint import Progress, checkpoints, load_checkpoint, save_checkpoint
from headrace.training.learning_rate import learning_rate
from headrace.training.log import TrainingLog
from headrace.training.objectives.objective import Losses, Objective
from headrace.training.order import batch_indices, part_seed, step_generator
from headrace.training.progress import Display
from headrace.training.tables.loop import LoopTable


@dataclass(frozen=True)
class RunSettings:
    """What belongs to one run of a phase rather than to its recipe. `seconds`: length the phase is fitted into."""

    name: str
    out: Path
    seed: int = 0
    seconds: float | None = None
    resume: bool = False


@dataclass(frozen=True)
class _Done:
    """A step that was made and not yet looked at: reading a loss waits for the device."""

    progress: Progress
    losses: Losses
    norm: torch.Tensor
    rate: float


class Trainer:
    """Runs one phase: AdamW, gradient clipping, averaged weights, checkpoints, log, samples, export.

    Data order and noise of a step follow from (seed, step) alone, so a killed run that resumes has the same losses as
    one that was not killed. With `seconds` the decay of the learning rate follows the clock instead of the step count
    (it must end when the time does), and only then depends on the machine.
    """

    def __init__(self, objective: Objective, loop: LoopTable, settings: RunSettings, accelerator: Accelerator) -> None:
        self.loop, self.settings, self.accelerator = loop, settings, accelerator
        self.objective = objective.to(accelerator.device)
        if loop.channels_last:
            self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = self.objective.trainable()
        optimizer = torch.optim.AdamW(
            self.parameters, lr=loop.learning_rate, betas=loop.betas, weight_decay=loop.weight_decay, fused=True
        )
        self.module, self.optimizer = accelerator.prepare(self.objective, optimizer)
        self.average = EMAModel(self.parameters, decay=loop.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.folder = settings.out / settings.name
        self.log = TrainingLog(self.folder / "log.csv")
        self.progress = self._resume() if settings.resume else Progress()
        self.log.cut(self.progress.step)
        self._shown = self.progress
        self._unchecked: list[_Done] = []
        self._started = time.monotonic() - self.progress.seconds

    def run(self, model_folder: Path) -> Progress:
        """Train to the end (of steps or time), exporting the averaged weights into `model_folder`."""
        with Display(self.settings.name, self.loop.steps, self.accelerator.is_main_process) as display:
            while self.progress.step < self.loop.steps and not self._out_of_time():
                self._step()
                step = self.progress.step
                if step % self.loop.log_every == 0:
                    display.update(step, self._write_down(), self._fraction(), self._images_per_second())
                if step % self.loop.sample_every == 0:
                    display.say(self._sample(model_folder))
                if step % self.loop.checkpoint_every == 0:
                    self._checkpoint()
            self._checkpoint()
            display.say(self._sample(model_folder))
        return self.progress

    def _step(self) -> None:
        """One update of the weights."""
        step, world = self.progress.step, self.accelerator.num_processes
        total = self.loop.batch_size * world
        indices = batch_indices(self.settings.seed, step, total, self.objective.item_count())
        first = self.accelerator.process_index * self.loop.batch_size
        mine = slice(first, first + self.loop.batch_size)
        draws = self.objective.draws(total, step_generator(self.settings.seed, step, self.accelerator.device))
        batch = self.objective.batch(indices[mine]) | {name: values[mine] for name, values in draws.items()}
        torch.manual_seed(part_seed(self.settings.seed, step, self.accelerator.process_index))
        rate = learning_rate(self.loop, step, self._fraction())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses: Losses = self.module(batch)
        self.accelerator.backward(losses["loss"])
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.loop.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.step(self.parameters)
        self.progress = replace(
            self.progress,
            step=step + 1,
            seconds=self._clock(),
            average_updates=self.average.optimization_step,
        )
        detached = {key: value.detach() for key, value in losses.items()}
        self._unchecked.append(_Done(self.progress, detached, norm, rate))

    def _clock(self) -> float:
        """Seconds spent: the first process's where they decide, so that all take the same rate and end together."""
        seconds = time.monotonic() - self._started
        if self.settings.seconds is None or self.accelerator.num_processes == 1:
            return seconds
        shared = torch.tensor([seconds], dtype=torch.float64, device=self.accelerator.device)
        return float(broadcast(shared, from_process=0).item())

    def _write_down(self) -> float:
        """Check and log the steps since the last time; the mean loss. Raises `TrainingError` on a NaN."""
        total = 0.0
        unchecked, self._unchecked = self._unchecked, []
        for done in unchecked:
            figures = {key: value.item() for key, value in done.losses.items()}
            if not math.isfinite(figures["loss"]) or not self._norm_is_good(done.norm):
                self.log.save()
                raise self._broken(done.progress.step)
            self.log.add(done.progress.step, {**figures, "learning_rate": done.rate, "seconds": done.progress.seconds})
            total += figures["loss"] / len(unchecked)
        return total

    def _norm_is_good(self, norm: torch.Tensor) -> bool:
        """Infinite gradients are ordinary under fp16's loss scaling, which skips their step."""
        return self.accelerator.mixed_precision == "fp16" or bool(torch.isfinite(norm))

    def _broken(self, step: int) -> TrainingError:
        good = checkpoints(self.folder / "checkpoints")
        where = f"the last good checkpoint is {str(good[-1])!r}" if good else "there is no checkpoint yet"
        problem = f"the loss of phase {self.settings.name!r} is not finite at step {step}; {where}"
        return TrainingError(problem, "Lower the learning rate or use bf16, then continue with --resume")

    def _checkpoint(self) -> None:
        """Never of weights whose losses were not checked, and never ahead of the log (a kill may come in between)."""
        self._write_down()
        if self.accelerator.is_main_process:
            self.log.save()
            folder, keep = self.folder / "checkpoints", self.loop.keep_checkpoints
            save_checkpoint(folder, self.progress, self.parameters, self.average, self.optimizer.optimizer, keep)

    def _sample(self, model_folder: Path) -> str:
        """Scores, a grid of samples and the export, all with the averaged weights; a line that says what came out."""
        self._write_down()
        if not self.accelerator.is_main_process:
            return ""
        step = self.progress.step
        with self.averaged():
            scores = self.objective.scores()
            grid = self.objective.sample_grid()
            self.objective.export(model_folder)
        write_file(self.folder / "samples" / f"step-{step:08d}.png", grid.save)
        self.log.add(step, scores)
        self.log.save()
        self.log.plot(self.folder / "loss.png", self.settings.name, tuple(scores))
        shown = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
        return f"step {step}: {shown}; samples in {self.folder / 'samples'}"

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The networks hold the averaged weights inside this context."""
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        self.objective.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.objective.train()
            self.average.restore(self.parameters)

    def _fraction(self) -> float:
        """Of the phase that is done, by steps or, where the time is given, by whichever ends first."""
        by_steps = self.progress.step / self.loop.steps
        if self.settings.seconds is None:
            return by_steps
        return min(1.0, max(by_steps, self.progress.seconds / self.settings.seconds))

    def _out_of_time(self) -> bool:
        return self.settings.seconds is not None and self.progress.seconds >= self.settings.seconds

    def _images_per_second(self) -> float:
        """Since the last call."""
        before, self._shown = self._shown, self.progress
        images = (self.progress.step - before.step) * self.loop.batch_size * self.accelerator.num_processes
        return images / max(self.progress.seconds - before.seconds, 1e-9)

    def _resume(self) -> Progress:
        """From the newest checkpoint, or from the start when there is none."""
        found = checkpoints(self.folder / "checkpoints")
        if not found:
            return Progress()
        return load_checkpoint(found[-1], self.parameters, self.average, self.optimizer.optimizer)
