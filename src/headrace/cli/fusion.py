"""What `--fusion` asks for: how many images share each evaluation of the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headrace.errors import PlanError

if TYPE_CHECKING:
    from headrace.models.pipelines.base import Pipeline
    from headrace.plan import Plan

HELP = "rows that share evaluations, where the model has networks for it: tfs, 4, 4:0.5,2:0.25,1:0.25 or cost:0.4"


Decide = Callable[["Plan"], "Plan"]


def decide_fusion(text: str, pipeline: Pipeline, first: Decide | None = None) -> Decide:
    """What fills `fusion` in the plans of a model as a user asked (`headrace.techniques.fusebatch.schedule.parse`).

    What else is decided, `first` decides before. Raises `PlanError` for what is no allocation, for a K that the model
    has no network for, and for a model whose autoencoder fuses.
    """
    from headrace.techniques.fusebatch.schedule import fuse, parse

    if pipeline.pictures > 1:
        raise PlanError(
            f"--fusion {text} was asked and {pipeline.name} makes {pipeline.pictures} pictures of one latent: its "
            "autoencoder fuses them, so K is the same in every row and there is nothing to schedule",
            "Leave --fusion out; for another K, use a model whose autoencoder was trained for it",
        )
    allocation = parse(text, pipeline.fusion_factors)

    def decide(plan: Plan) -> Plan:
        return fuse(plan if first is None else first(plan), allocation)

    return decide
