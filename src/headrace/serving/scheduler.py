"""Policies by name. The same object decides in the simulator and on the hardware."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from headrace.errors import ServingError
from headrace.serving.latency_table import LatencyTable
from headrace.serving.policies.continuous import Continuous
from headrace.serving.policies.dynamic import Dynamic
from headrace.serving.policies.sequential import Sequential
from headrace.serving.policies.synergetic import Settings, Synergetic
from headrace.serving.skip_window import SkipWindow
from headrace.serving.state import Policy

POLICIES = ("sequential", "dynamic", "continuous", "synergetic")
ABLATIONS = ("chunking", "skipping", "planning", "control")  # options of synergetic that can be turned off
_OPTIONS = {
    "sequential": (),
    "dynamic": ("window_s",),
    "continuous": (),
    "synergetic": tuple(field.name for field in fields(Settings)),
}


def make_policy(name: str, table: LatencyTable, window: SkipWindow | None = None, **options: Any) -> Policy:
    """A new policy for one engine.

    `table` and `window` are what the synergetic policy plans with; the others look at neither. `options` of synergetic
    are the fields of `Settings`, of dynamic `window_s`. Raises `ServingError` for an unknown name or option, and for
    values out of range.
    """
    if name not in _OPTIONS:
        raise ServingError(f"there is no policy {name!r}", f"Choose {', '.join(POLICIES)}")
    unknown = sorted(set(options) - set(_OPTIONS[name]))
    if unknown:
        known = ", ".join(_OPTIONS[name]) or "none"
        raise ServingError(f"policy {name} has no option {unknown[0]!r}", f"Its options: {known}")
    if name == "sequential":
        return Sequential()
    if name == "dynamic":
        return Dynamic(**options)
    if name == "continuous":
        return Continuous()
    return Synergetic(table, window, Settings(**options))
