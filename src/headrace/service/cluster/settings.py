"""What an operator decides about a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import ServiceError


@dataclass(frozen=True)
class ClusterSettings:
    """Replicas and what they may use.

    Attributes:
        replicas: engines; None for one a GPU of the whole cluster, or one a machine where there are none.
        autoscale: (fewest, most) engines, between which their number follows the queue; None for a fixed number.
        clear_target_s: seconds of work a replica should have before it: more, and a replica is added.
        upscale_delay_s, downscale_delay_s: how long there must be too few or too many before that changes anything.
        address: of a Ray cluster to join, "auto" for the one on this machine; None starts one, on loopback alone.
        gpus, cpus: of one replica. None: a GPU each where there are as many; and its share of this machine's cores.
        drain_s: seconds that a replica may take to finish its wishes when there is one too many.
        name: of the application on Ray Serve. Two servers on one Ray cluster need two names.

    Raises `ServiceError` for numbers that fit nothing.
    """

    replicas: int | None = None
    autoscale: tuple[int, int] | None = None
    clear_target_s: float = 10.0
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 300.0
    address: str | None = None
    gpus: float | None = None
    cpus: float | None = None
    drain_s: float = 600.0
    name: str = "headrace"

    def __post_init__(self) -> None:
        if self.replicas is not None and self.replicas < 1:
            raise ServiceError(f"{self.replicas} replicas were asked for", "Give at least 1")
        if self.autoscale is not None and not 1 <= self.autoscale[0] <= self.autoscale[1]:
            low, high = self.autoscale
            raise ServiceError(f"the number of replicas cannot go from {low} to {high}", "Give MIN:MAX, 1 or more")
        if self.replicas is not None and self.autoscale is not None:
            raise ServiceError("a fixed number of replicas and a changing one were asked for", "Give one of the two")
        if self.clear_target_s <= 0:
            raise ServiceError(f"replicas should be clear in {self.clear_target_s} s", "Give a time above 0")


def read_autoscale(text: str) -> tuple[int, int]:
    """MIN:MAX as given on a command line. Raises `ServiceError` for anything else."""
    low, colon, high = text.partition(":")
    if not (colon and low.isdecimal() and high.isdecimal()):
        raise ServiceError(f"{text!r} is no range of replicas", "Give MIN:MAX, such as 1:4")
    return int(low), int(high)
