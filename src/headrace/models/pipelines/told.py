"""Networks of Headrace's own that are told columns of the plan, in the place of a diffusers U-Net.

A registered network may stand for a `UNet2DModel` or a `UNet2DConditionModel`
(`headrace.models.pipelines.parts.stands_for`). It is called as that is, with the plan's `columns` that it names beside:
`fusion` = K, of its `factors`, where it evaluates K rows at once (FuseBatch), `stage` [N], where each row goes to the
decoder of its stage (Multistage). Its `decide(plan)` fills them, and its `check(plan)`, where it has one, refuses
values that it has nothing for.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from headrace.models.denoiser import Rows
from headrace.models.pipelines.base import Pipeline
from headrace.plan.plan import Plan


class ToldPipeline(Pipeline):
    """A pipeline whose network may be one that is told columns of the plan."""

    @property
    @override
    def columns(self) -> frozenset[str]:
        return super().columns | self._own_columns

    @property
    def _own_columns(self) -> frozenset[str]:
        """What the network itself is told of each row."""
        return frozenset(getattr(self.network, "columns", ()))

    @property
    def _own(self) -> Any:
        """The network, where it has columns of its own."""
        return self.network

    @property
    @override
    def fusion_factors(self) -> tuple[int, ...]:
        return tuple(self._own.factors) if "fusion" in self._own_columns else super().fusion_factors

    @override
    def own_decisions(self, plan: Plan) -> Plan:
        if not self._own_columns:
            return plan
        decided: Plan = self._own.decide(plan)
        return decided

    @override
    def check_plan(self, plan: Plan) -> None:
        super().check_plan(plan)
        check = getattr(self._own, "check", None)
        if check is not None:
            check(plan)

    def told(self, rows: Rows) -> dict[str, Any]:
        """The arguments that the network takes beside those of the class that it stands for."""
        known = {"fusion": rows.fusion, "stage": rows.columns.get("stage", 0)}  # 0: what the column holds by default
        return {name: known[name] for name in self._own_columns}
