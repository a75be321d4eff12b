"""From a recipe's `process` table to the process and its solver."""

from __future__ import annotations

from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from headrace.errors import RecipeError
from headrace.training.processes.edm import EDM
from headrace.training.processes.flow_matching import FlowMatching
from headrace.training.processes.process import Process
from headrace.training.processes.variance_preserving import VariancePreserving
from headrace.training.tables.processes import EDMTable, FlowMatchingTable, ProcessTable


def build_process(table: ProcessTable, latent: bool = False) -> Process:
    """The process that the table describes. `latent`: of latents, which have no bounds that a solver could clip at.

    Raises `RecipeError` for options that diffusers' scheduler does not have or refuses.
    """
    if isinstance(table, EDMTable):
        return EDM(_solver(EDMEulerScheduler, table.solver), table.log_sigma_mean, table.log_sigma_deviation)
    if isinstance(table, FlowMatchingTable):
        solver = _solver(FlowMatchEulerDiscreteScheduler, table.solver)
        return FlowMatching(solver, table.times, table.logit_mean, table.logit_deviation)
    # diffusers' pipelines of latents come with DDIM, its pipeline of pixels with DDPM.
    kind, defaults = (DDIMScheduler, {"clip_sample": False}) if latent else (DDPMScheduler, {})
    return VariancePreserving(_solver(kind, defaults | table.solver), table.min_snr_gamma)


def _solver(kind: Any, options: dict[str, Any]) -> Any:
    try:
        solver = kind(**options)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(f"the solver of the recipe is refused: {error}", f"See diffusers' {kind.__name__}") from None
    predicted = solver.config.get("prediction_type", "epsilon")
    if predicted not in ("epsilon", "v_prediction", "sample"):
        raise RecipeError(f"the solver's prediction_type is {predicted!r}", "Choose epsilon, v_prediction or sample")
    return solver
