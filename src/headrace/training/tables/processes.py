"""The tables that choose a diffusion process: `process.kind` says which one applies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from headrace.training.tables.table import Table


class VariancePreservingTable(Table):
    """DDPM's process (arXiv:2006.11239): noise, velocity or data predicted at discrete timesteps."""

    kind: Literal["variance-preserving"] = "variance-preserving"
    solver: dict[str, Any] = Field(
        default_factory=dict, description="arguments of diffusers' DDPMScheduler (latents: DDIMScheduler)"
    )
    min_snr_gamma: float | None = Field(None, gt=0, description="loss weighting of arXiv:2303.09556; none = uniform")


class EDMTable(Table):
    """EDM's preconditioning, noise levels and loss weighting (arXiv:2206.00364, table 1)."""

    kind: Literal["edm"]
    solver: dict[str, Any] = Field(default_factory=dict, description="arguments of diffusers' EDMEulerScheduler")
    log_sigma_mean: float = Field(-1.2, description="mean of ln sigma, P_mean in the paper")
    log_sigma_deviation: float = Field(1.2, gt=0, description="standard deviation of ln sigma, P_std in the paper")


class FlowMatchingTable(Table):
    """Flow matching along straight paths (arXiv:2210.02747)."""

    kind: Literal["flow-matching"]
    solver: dict[str, Any] = Field(
        default_factory=dict, description="arguments of diffusers' FlowMatchEulerDiscreteScheduler"
    )
    times: Literal["uniform", "logit-normal"] = Field("uniform", description="distribution of the times learnt at")
    logit_mean: float = Field(0.0, description="of logit-normal times (arXiv:2403.03206)")
    logit_deviation: float = Field(1.0, gt=0, description="of logit-normal times")


ProcessTable = Annotated[VariancePreservingTable | EDMTable | FlowMatchingTable, Field(discriminator="kind")]
