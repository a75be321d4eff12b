"""The accelerator of a phase: devices, processes, number format."""

from __future__ import annotations

from datetime import timedelta

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from headrace.errors import RecipeError
from headrace.training.tables.loop import LoopTable

# The first process alone measures scores and draws samples; the others wait for it in their next exchange.
_PATIENCE = timedelta(hours=2)


def make_accelerator(loop: LoopTable) -> Accelerator:
    """An accelerator for the loop's number format and accumulation. Raises `RecipeError` for fp16 on a CPU."""
    state = AcceleratorState._shared_state
    if state and state.get("_mixed_precision") != loop.mixed_precision:
        AcceleratorState._reset_state()  # accelerate keeps the first phase's number format for the whole process
    accelerator = Accelerator(
        mixed_precision=loop.mixed_precision,
        # As a plugin, so that the launcher's environment does not replace the recipe's number.
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=loop.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    if loop.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # accelerate would use float32 unasked
        raise RecipeError(
            "loop.mixed_precision = 'fp16' scales losses for a GPU, and this phase would run on a CPU",
            "Use 'bf16', which needs no scaling, or 'no'",
        )
    return accelerator
