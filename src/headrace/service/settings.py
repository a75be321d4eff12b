"""What a service is started with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import ServiceError

POLICIES = ("auto", "synergetic", "continuous", "dynamic", "sequential")
DTYPES = ("float32", "float16", "bfloat16")
PLAIN = "none"  # the name by which a wish asks for plain sampling

_COUNTS = (
    "slots", "max_rows", "queue", "queue_bytes", "failed_starts", "kills", "checkpoint_rows", "memory_bytes",
    "max_pixels", "threads",
)  # fmt: skip
_SECONDS = ("max_wait_s", "stall_s", "start_s", "backoff_s", "beat_s", "measure_s")
_OPEN = ("memory_bytes", "max_pixels", "threads")  # None: what the engine or torch takes


@dataclass(frozen=True)
class ServiceSettings:
    """Frozen settings of one supervised engine.

    Attributes:
        model: a diffusers folder or the name of an embedded model.
        name: that clients know it by; None for the folder's.
        device, dtype: of the networks.
        threads: torch threads of the engine's process; None for as many as torch takes.
        slots: pictures of the default size that are worked on at once.
        max_rows: network rows in one call.
        memory_bytes: as in the engine's settings.
        max_pixels: of one picture; None for four times the default size's, as far as the slots have room.
        accelerations: name -> file that `headrace tune` or a calibration wrote.
        default_acceleration: used where a wish names none; None for plain sampling.
        policy: "auto" is synergetic where there is a latency table, given or measured, and continuous else.
        policy_options: of the policy, by name.
        latency_table: file of `headrace calibrate latency`; None to have a small one measured at the first start.
        skip_window: file of `headrace calibrate guidance`; with it the load decides how many unconditional branches
            are left out, so pictures depend on it. None: nothing is left out.
        measure_s: what that measurement may take, seconds; 0 for none.
        queue: wishes that are held at once at most, those in slots among them.
        queue_bytes: what they and their snapshots may take in memory together.
        max_wait_s: a wish is refused where the picture would take longer than this, seconds.
        checkpoint_rows: a snapshot of a wish is kept every so many of its rows. At 4, taking and sending them is 0.2%
            of the rounds' time (measured: `emoji`, 8 in slots, 14 kB each), and a fault costs 4 rows at most.
        stall_s: seconds without a sign of life, or in one round, after which the process counts as hung; where longer
            rounds were seen, ten times the longest. Raise it for models whose rounds may take minutes.
        start_s: seconds that a start may take.
        failed_starts: after so many in a row the service gives up.
        backoff_s: wait before the second start in a row that may fail; it doubles from there, up to a minute.
        kills: SIGKILLs from outside that a wish may see at one row before it is suspected, and as many again alone
            before it is failed (`headrace.service.quarantine`).
        beat_s: seconds between signs of life.
        replica: number of this engine among several.
        standby: keep a second process that has imported everything and loaded nothing (some 400 MB, mostly shared), so
            that one that dies is replaced in the time that the model takes to load.
        program: module that is run as the engine's process; it speaks `headrace.service.messages`.
        factory: "module:function" that makes the engine's room of these settings (`headrace.service.worker.room`).

    Raises `ServiceError` for values out of range.
    """

    model: str
    name: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = None
    slots: int = 16
    max_rows: int = 32
    memory_bytes: int | None = None
    max_pixels: int | None = None
    accelerations: Mapping[str, str] = field(default_factory=dict)
    default_acceleration: str | None = None
    policy: str = "auto"
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    latency_table: str | None = None
    skip_window: str | None = None
    measure_s: float = 10.0
    queue: int = 256
    queue_bytes: int = 256 << 20
    max_wait_s: float = 120.0
    checkpoint_rows: int = 4
    stall_s: float = 180.0
    start_s: float = 600.0
    failed_starts: int = 5
    backoff_s: float = 0.5
    kills: int = 8
    beat_s: float = 0.5
    replica: int = 0
    standby: bool = False
    program: str = "headrace.service.worker"
    factory: str = "headrace.service.worker.room:room_of"

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if name in _OPEN and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ServiceError(f"{name} is {value!r}", "Give a whole number of at least 1")
        for name in _SECONDS:
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and name not in ("measure_s", "backoff_s")):
                raise ServiceError(f"{name} is {value!r}", "Give seconds above 0")
        if self.policy not in POLICIES:
            raise ServiceError(f"policy is {self.policy!r}", f"Choose {', '.join(POLICIES)}")
        if self.dtype not in DTYPES:
            raise ServiceError(f"dtype is {self.dtype!r}", f"Choose {', '.join(DTYPES)}")
        if PLAIN in self.accelerations or any(not name or len(name) > 64 for name in self.accelerations):
            problem = f"accelerations are named {', '.join(map(repr, self.accelerations))}"
            raise ServiceError(problem, f"Give each a name of 1 to 64 letters other than {PLAIN!r}")
        if self.default_acceleration is not None and self.default_acceleration not in self.accelerations:
            known = ", ".join(self.accelerations) or "none"
            raise ServiceError(f"the default acceleration is {self.default_acceleration!r}", f"Known ones: {known}")
        module, _, function = self.factory.partition(":")
        if not module or not function:
            raise ServiceError(f"factory is {self.factory!r}", "Write module:function")
