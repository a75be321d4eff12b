"""Fewer steps: the peer that needs no idea."""

from __future__ import annotations

from headrace.benchmarks._peers.peer import Uncached
from headrace.errors import HeadraceError


class FewerSteps(Uncached):
    """The same solver with a share of the steps, nothing cached: what any cache has to beat at equal latency.

    Wimbauer et al. (CVPR 2024), Table 1 (LDM-512, A100): 14 of 20 steps is x1.43 with FID 18.67 against 17.15 (DPM) and
    17.11 against 17.43 (DDIM); 30 of 50 steps x1.67 with FID 17.21 against 17.44 (DPM) and 17.42 against 17.76 (DDIM).
    Ma et al. (CVPR 2024), Table 3 (SD 1.5, RTX 2080): 25 of 50 PLMS steps is x2.04, CLIP score 29.33 against 29.51 on
    PartiPrompts; x1.91, 29.99 against 30.30 on COCO 2017.

    Raises `HeadraceError` for a share outside (0, 1].
    """

    source = "Wimbauer et al. 2024, Table 1"
    claim = "14 of 20 steps: x1.43, FID 17.15 -> 18.67 (LDM-512, DPM)"

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise HeadraceError(f"a share of {share} of the steps is not between 0 and 1", "Give 0.7 for 14 of 20")
        self.share = share
        self.name = f"fewer steps ({share:.0%})"

    def steps(self, wanted: int) -> int:
        """The share of `wanted`, rounded; at least one."""
        return max(1, round(wanted * self.share))
