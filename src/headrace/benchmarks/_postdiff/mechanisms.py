"""PostDiff's mechanisms, each alone and together, with the paper's constants: k = 2, m = 0.75, s = beta = 0.5."""

from __future__ import annotations

from typing import Any

from headrace.tuning.settings import Settings

PLAIN, TOGETHER = "plain", "all together"

_RESOLUTION = {"low_share": 0.5, "low_scale": 0.5}
_BRANCH = {"deep_interval": 2}
_CROSS_ATTENTION = {"cross_share": 0.75}
_GUIDANCE = {"guidance_share": 0.75}

MECHANISMS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "mixed resolution": _RESOLUTION,
    "deep branch reused": _BRANCH,
    "cross-attention reused": _CROSS_ATTENTION,
    "guidance cut-off": _GUIDANCE,
    TOGETHER: {**_RESOLUTION, **_BRANCH, **_CROSS_ATTENTION, **_GUIDANCE},
}


def mechanism(name: str, solver: str, steps: int) -> Settings:
    """The settings of one."""
    return Settings.parse({"solver": solver, "steps": steps, **MECHANISMS[name]})
