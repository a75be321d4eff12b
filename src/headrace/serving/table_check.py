"""Whether a latency table says anything about the model and machine at hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from headrace.errors import ArtefactError, HeadraceWarning
from headrace.serving.latency_table import LatencyTable

PARAMETERS = "parameters"  # figure of a table: the network's parameters

_MEASURE = "Measure this one: headrace calibrate latency MODEL"


@dataclass(frozen=True)
class Identity:
    """What latencies depend on.

    Attributes:
        model: its name.
        weights: fingerprint of its files.
        parameters: how many the network has, which tells shapes apart.
        size_multiple: pixels that heights and widths are multiples of.
        machine: its name, as the command line writes it into tables.
        device: name of the torch device.
        dtype: of the network's weights.
    """

    model: str
    weights: str
    parameters: int
    size_multiple: int
    machine: str
    device: str
    dtype: str


def check_table(table: LatencyTable, identity: Identity) -> None:
    """Raises `ArtefactError` for a table of a model of other shapes; warns (`HeadraceWarning`) of other differences.

    Shapes differ where the network has another number of parameters, or a size was measured that the model does not
    make. Other weights in the same shapes take the same time: that, another machine, device or dtype is a warning.
    """
    parameters = table.figures.get(PARAMETERS)
    if table.weights != identity.weights and parameters != identity.parameters:
        told = "" if parameters is None else f", with {parameters:.0f} parameters and not {identity.parameters}"
        raise ArtefactError(
            f"the latency table was measured on the model {table.model!r}{told}, not on {identity.model!r}", _MEASURE
        )
    for entry in table.sizes:
        if entry.height % identity.size_multiple or entry.width % identity.size_multiple:
            raise ArtefactError(
                f"the latency table holds pictures of {entry.width}x{entry.height}, and {identity.model!r} makes "
                f"multiples of {identity.size_multiple} pixels",
                _MEASURE,
            )
    for name, own in (("machine", identity.machine), ("device", identity.device), ("dtype", identity.dtype)):
        there = getattr(table, name)
        if there != own:
            warnings.warn(
                f"the latency table was measured on {name} {there!r}, and this is {own!r}: its times may not hold. "
                f"{_MEASURE}",
                HeadraceWarning,
                stacklevel=2,
            )
    if table.weights != identity.weights:
        warnings.warn(
            f"the latency table was measured with other weights ({table.model!r}) in the same shapes",
            HeadraceWarning,
            stacklevel=2,
        )
