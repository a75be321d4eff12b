"""From a recipe's `process` table to the process and its solver."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from diffusers import DDIMScheduler, DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from headrace.errors import RecipeError
from headrace.training.processes.edm import EDM
from headrace.training.processes.flow_matching import FlowMatching
from headrace.training.processes.process import Process
from headrace.training.processes.variance_preserving import VariancePreserving
from headrace.training.tables.processes import EDMTable, FlowMatchingTable, ProcessTable


def build_process(
    table: ProcessTable, latent: bool = False, defaults: Mapping[str, Any] = MappingProxyType({})
) -> Process:
    """The process that the table describes. `latent`: of latents, which have no bounds that a solver could clip at.

    `defaults`: options of a trained model's solver, for those that the table leaves open; others than the process's
    solver has are left out.

    Raises `RecipeError` for options that diffusers' scheduler does not have or refuses.
    """
    if isinstance(table, EDMTable):
        solver = _solver(EDMEulerScheduler, defaults, table.solver)
        return EDM(solver, table.log_sigma_mean, table.log_sigma_deviation)
    if isinstance(table, FlowMatchingTable):
        solver = _solver(FlowMatchEulerDiscreteScheduler, defaults, table.solver)
        return FlowMatching(solver, table.times, table.logit_mean, table.logit_deviation)
    # diffusers' pipelines of latents come with DDIM, its pipeline of pixels with DDPM.
    kind = DDIMScheduler if latent else DDPMScheduler
    own = {"clip_sample": False} if latent else {}
    return VariancePreserving(_solver(kind, {**own, **defaults}, table.solver), table.min_snr_gamma)


def _solver(kind: Any, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    known = inspect.signature(kind.__init__).parameters
    found = {name: value for name, value in defaults.items() if name in known}
    try:
        solver = kind(**{**found, **options})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise RecipeError(f"the solver of the recipe is refused: {error}", f"See diffusers' {kind.__name__}") from None
    predicted = solver.config.get("prediction_type", "epsilon")
    if predicted not in ("epsilon", "v_prediction", "sample"):
        raise RecipeError(f"the solver's prediction_type is {predicted!r}", "Choose epsilon, v_prediction or sample")
    return solver
