"""How an engine runs: memory, batch sizes, compilation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from headrace.errors import HeadraceError

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
LaneName = Literal["interleaved", "threads", "streams"]


@dataclass(frozen=True)
class EngineSettings:
    """Frozen settings of one engine.

    Attributes:
        slots: requests in memory at once, counted in pictures of the model's default size (a picture of four times the
            area takes four). Requests beyond it wait.
        memory_bytes: what latents, registers and kept block values of all slots may take together; None for room for
            `slots` pictures of the default size, every cached block kept.
        max_rows: network rows in one call, counted the same way; bounds the memory of activations. Running out of
            memory halves it, as it does `decode_batch` (`Engine.max_rows`).
        decode_batch: pictures decoded in one call. A decoding that is cut into chunks keeps what the last one made, at
            most the decoder's largest activations, beyond `memory_bytes`.
        compile: None, or a mode of `torch.compile`; "reduce-overhead" uses CUDA graphs, one for each bucket.
        buckets: batch sizes that calls are padded to when compiled, so that few shapes are ever compiled.
        channels_last: keep the network's convolutions in channels-last memory format (5% faster on CPUs at 4 rows and
            more, measured; transformers are not touched by it).
        keep_freed_memory: on a CPU, have the process keep freed memory for the next call (calls 10 to 20% faster and
            more, measured; the process's memory then stays at its peak). It concerns the whole process.
        lane: where decoder chunks run. "interleaved": in the engine's thread, before the round's rows; "threads": in a
            thread of their own beside the rows (CPUs); "streams": in a second stream beside the rows (CUDA). Chunks of
            the last two run on over the rounds that follow. Which is best is measured by `headrace calibrate latency`.
        encode_ahead: encode the prompts of waiting requests in a thread of its own, so that admission does not wait;
            as many ahead as there are slots.
        side_threads: on a CPU, torch threads of each of those threads; None for half of what torch has, at least 1.
            While a chunk runs beside them, rows have the rest.
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
    lane: LaneName = "interleaved"
    encode_ahead: bool = False
    side_threads: int | None = None
    synchronize_timings: bool = False

    def __post_init__(self) -> None:
        for name in ("slots", "memory_bytes", "max_rows", "decode_batch", "side_threads"):
            value = getattr(self, name)
            if name in ("memory_bytes", "side_threads") and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise HeadraceError(f"{name} is {value!r}", f"{name} is a whole number of at least 1")
        if self.lane not in get_args(LaneName):
            raise HeadraceError(f"lane is {self.lane!r}", f"Lanes: {', '.join(get_args(LaneName))}")
        if (
            not self.buckets
            or any(size < 1 for size in self.buckets)
            or list(self.buckets) != sorted(set(self.buckets))
        ):
            raise HeadraceError(f"buckets is {self.buckets!r}", "Give increasing batch sizes of at least 1")


def side_threads(settings: EngineSettings) -> int:
    """Torch threads of a thread that works beside the rows."""
    return settings.side_threads or max(1, torch.get_num_threads() // 2)
