"""The weights being learnt: moved by AdamW, averaged, and put into checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from headrace.errors import TrainingError
from headrace.training.checkpoint import Learned, Progress, Tensors
from headrace.training.cycle_mean import CycleMean
from headrace.training.objectives.objective import Batch, Losses, Objective
from headrace.training.tables.loop import LoopTable


@dataclass(frozen=True)
class Update:
    """One update: this process's mean losses, the norm of the gradient before clipping, and whether it was skipped.

    Only fp16 skips: where the scaled gradients overflow, the weights stay and the scale is lowered. Tensors stay on
    the device, because reading one waits for it.
    """

    losses: Losses
    norm: torch.Tensor
    skipped: bool = False


class Weights:
    """An objective's trained parameters with their optimiser and their averages (exponential, warmed up).

    With several cycles the average begins anew in each of them, and its values at their ends have a mean of their own.
    The optimiser's moments go on.
    """

    def __init__(self, objective: Objective, loop: LoopTable, accelerator: Accelerator) -> None:
        self.loop, self.accelerator = loop, accelerator
        self.objective = objective.to(accelerator.device)
        if loop.channels_last:
            self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if loop.compile:
            self.objective.compile()
        self.parameters = self.objective.trainable()
        by_identity = {id(parameter): name for name, parameter in self.objective.named_parameters()}
        self.names = [by_identity[id(parameter)] for parameter in self.parameters]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=loop.learning_rate, betas=loop.betas, weight_decay=loop.weight_decay, fused=True
        )
        self.module, self.optimizer = accelerator.prepare(self.objective, optimizer)
        self.average = EMAModel(self.parameters, decay=loop.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.cycle_mean = CycleMean()

    def update(self, parts: Iterable[Batch], rate: float) -> Update:
        """Move the weights along the mean gradient of the parts (`gradient_accumulation_steps` of them)."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        share = 1 / self.loop.gradient_accumulation_steps
        losses: Losses = {}
        for batch in parts:
            with self.accelerator.accumulate(self.module):
                found: Losses = self.module(batch)
                self.accelerator.backward(found["loss"])
            losses = {name: losses.get(name, 0.0) + value.detach() * share for name, value in found.items()}
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.loop.clip_norm)
        skipped = self._move()
        if not skipped:
            self.average.step(self.parameters)
        return Update(losses, norm, skipped)

    def _move(self) -> bool:
        """The optimiser's step; whether fp16 skipped it.

        The scale says so. `step_was_skipped` does not: a fused optimiser is called in any case and skips by itself.
        """
        scaler = self.accelerator.scaler
        before = None if scaler is None else scaler.get_scale()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return scaler is not None and scaler.get_scale() < before

    @torch.no_grad()
    def hold(self) -> None:
        """What the objective holds learns no more, and has the value that it is held at, averaged too."""
        places = {id(parameter): place for place, parameter in enumerate(self.parameters)}
        for parameter, value in self.objective.held():
            parameter.copy_(value)
            self.average.shadow_params[places[id(parameter)]].copy_(value)
            parameter.requires_grad_(False)
            parameter.grad = None

    def end_cycle(self) -> None:
        """The averaged weights join the mean of the cycles' ends; the average begins anew with the next update."""
        self.cycle_mean.add(self.average.shadow_params)
        self.average.optimization_step = 0

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The networks hold the weights to be exported, for evaluation, inside this context.

        These are the averaged ones, and from the end of the first of several cycles on the mean of the ends so far.
        """
        self.average.store(self.parameters)
        (self.cycle_mean if self.cycle_mean.ends else self.average).copy_to(self.parameters)
        self.objective.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.objective.train()
            self.average.restore(self.parameters)

    def learned(self) -> Learned:
        """What a checkpoint keeps."""
        state = self.optimizer.optimizer.state_dict()["state"]
        moments = {
            f"{self.names[number]}.{key}": value for number, table in state.items() for key, value in table.items()
        }
        scaler = self.accelerator.scaler
        return Learned(
            weights=dict(zip(self.names, self.parameters, strict=True)),
            average=dict(zip(self.names, self.average.shadow_params, strict=True)),
            optimizer=moments,
            buffers=self._buffers(),
            loss_scale={} if scaler is None else scaler.state_dict(),
            cycle_mean=dict(zip(self.names, self.cycle_mean.tensors, strict=False)),  # none before the first end
        )

    def restore(self, learned: Learned, progress: Progress) -> None:
        """Put a checkpoint's tensors in place. Raises `TrainingError` when they are of another network.

        With one cycle what other cycles came to is left out.
        """
        weights, average = self._by_name(learned.weights), self._by_name(learned.average)
        own = dict(zip(self.names, self.parameters, strict=True))
        check_shapes(own, weights)
        buffers = self._buffers()
        if learned.buffers:
            check_shapes(buffers, learned.buffers)
        if progress.cycle_ends and self.loop.cycles > 1:
            check_shapes(own, learned.cycle_mean)
            mean = [learned.cycle_mean[name].to(parameter) for name, parameter in own.items()]
            self.cycle_mean.restore(mean, progress.cycle_ends)
        with torch.no_grad():
            for name, shadow in zip(self.names, self.average.shadow_params, strict=True):
                own[name].copy_(weights[name])
                shadow.copy_(average[name])
            for name, value in learned.buffers.items():
                buffers[name].copy_(value)
        self.average.optimization_step = progress.average_updates
        content = self.optimizer.optimizer.state_dict()
        content["state"] = self._by_number(learned.optimizer)
        self.optimizer.optimizer.load_state_dict(content)
        if self.accelerator.scaler is not None and learned.loss_scale:
            self.accelerator.scaler.load_state_dict(learned.loss_scale)

    def _buffers(self) -> Tensors:
        """Persistent buffers, such as the statistics of a batch norm."""
        parameters = {name for name, _ in self.objective.named_parameters(remove_duplicate=False)}
        return {name: value for name, value in self.objective.state_dict().items() if name not in parameters}

    def _by_name(self, tensors: Tensors) -> Tensors:
        """The first format of checkpoints numbered the parameters; those keys become names."""
        return {self._name(key): value for key, value in tensors.items()}

    def _name(self, key: str) -> str:
        return self.names[int(key)] if key.isdigit() and int(key) < len(self.names) else key

    def _by_number(self, moments: Tensors) -> dict[int, Tensors]:
        """AdamW's state as torch wants it."""
        table: dict[int, Tensors] = {}
        numbers = {name: number for number, name in enumerate(self.names)}
        for key, value in moments.items():
            name, moment = key.rsplit(".", 1)
            table.setdefault(numbers[self._name(name)], {})[moment] = value
        return table


def check_shapes(own: Mapping[str, torch.Tensor], found: Tensors) -> None:
    """Raises `TrainingError` naming the first tensor that the two do not share, with both shapes."""
    for name in [*own, *(name for name in found if name not in own)]:
        here, there = (tuple(table[name].shape) if name in table else None for table in (own, found))
        if here != there:
            words = ["absent" if shape is None else str(list(shape)) for shape in (here, there)]
            raise TrainingError(
                f"the checkpoint is of another network: {name} is {words[0]} in the recipe and {words[1]} in it",
                "Use another --out, or the recipe that it was made with",
            )
