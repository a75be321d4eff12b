"""How an engine runs: memory, batch sizes, compilation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.errors import HeadraceError

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


@dataclass(frozen=True)
class EngineSettings:
    """Frozen settings of one engine.

    Attributes:
        slots: requests in memory at once, counted in pictures of the model's default size (a picture of four times the
            area takes four). Requests beyond it wait.
        memory_bytes: what latents, registers and kept block values of all slots may take together; None for room for
            `slots` pictures of the default size, every cached block kept.
        max_rows: network rows in one call, counted the same way; bounds the memory of activations.
        decode_batch: pictures decoded in one call.
        compile: None, or a mode of `torch.compile`; "reduce-overhead" uses CUDA graphs, one for each bucket.
        buckets: batch sizes that calls are padded to when compiled, so that few shapes are ever compiled.
        channels_last: keep the network's convolutions in channels-last memory format (5% faster on CPUs at 4 rows and
            more, measured; transformers are not touched by it).
        keep_freed_memory: on a CPU, have the process keep freed memory for the next call (calls 10 to 20% faster and
            more, measured; the process's memory then stays at its peak). It concerns the whole process.
        synchronize_timings: wait for the device around every timed call. Needed for true figures on CUDA, slower.
    """

    slots: int = 32
    memory_bytes: int | None = None
    max_rows: int = 32
    decode_batch: int = 8
    compile: CompileMode | None = None
    buckets: tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32)
    channels_last: bool = True
    keep_freed_memory: bool = True
    synchronize_timings: bool = False

    def __post_init__(self) -> None:
        for name in ("slots", "memory_bytes", "max_rows", "decode_batch"):
            value = getattr(self, name)
            if name == "memory_bytes" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise HeadraceError(f"{name} is {value!r}", f"{name} is a whole number of at least 1")
        if (
            not self.buckets
            or any(size < 1 for size in self.buckets)
            or list(self.buckets) != sorted(set(self.buckets))
        ):
            raise HeadraceError(f"buckets is {self.buckets!r}", "Give increasing batch sizes of at least 1")
