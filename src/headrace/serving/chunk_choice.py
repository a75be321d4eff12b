"""Into how many chunks a decoding is cut: equations (1) and (2) of SynerDiff, section III-C.

The formulas did not survive in the paper's text, its words did; this is what is computed from them. A decoding of n
chunks runs beside n rounds of rows, t_u(n) seconds a round until the rows are done and t_v(n) until the chunk is, t_u
and t_v where each runs alone. The cumulative latencies over the n rounds are, as the decoding does not wait for the
rows of its last round,

    T_u(n) = n t_u(n)        T_v(n) = (n - 1) max(t_u(n), t_v(n)) + t_v(n)                                      (2)

and n minimises the weighted sum of what running together adds to each, relative to running alone,

    cost(n) = w (T_u(n) / (n t_u) - 1) + (1 - w) (T_v(n) / t_v - 1),        1 <= n <= n_max                     (1)

where n_max is the largest n whose rounds take at most 5% longer than alone: t_u(n) <= 1.05 t_u. The paper's weight is
lost as well; 0.5 weighs both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from headrace.errors import CalibrationError

WEIGHT = 0.5
BOUND = 0.05


@dataclass(frozen=True, slots=True)
class ChunkTimes:
    """Seconds of rounds with a chunk of a decoding that is cut into `chunks`, and of rows and decoding alone."""

    chunks: int
    unet_s: float
    vae_s: float
    unet_alone_s: float
    vae_alone_s: float

    @property
    def unet_overhead(self) -> float:
        """T_u(n) / (n t_u) - 1; below 0 only by noise."""
        return self.unet_s / self.unet_alone_s - 1

    @property
    def vae_overhead(self) -> float:
        """T_v(n) / t_v - 1."""
        cumulative = (self.chunks - 1) * max(self.unet_s, self.vae_s) + self.vae_s
        return cumulative / self.vae_alone_s - 1

    def cost(self, weight: float = WEIGHT) -> float:
        """Equation (1)."""
        return weight * self.unet_overhead + (1 - weight) * self.vae_overhead


@dataclass(frozen=True, slots=True)
class ChunkChoice:
    """`chunks` by equation (1), `max_chunks` by the bound.

    `bounded` is False where no chunk count keeps the bound: then `max_chunks` is the one that adds least to the rows.
    """

    chunks: int
    max_chunks: int
    bounded: bool


def choose_chunks(sizes: Sequence[Sequence[ChunkTimes]], weight: float = WEIGHT, bound: float = BOUND) -> ChunkChoice:
    """One chunk count for all sizes, by the mean over sizes of cost and UNet overhead; the smaller of equal ones.

    Each size comes with the same chunk counts. Raises `CalibrationError` where there are none, or for a weight outside
    0 to 1 or a bound below 0.
    """
    check_weight(weight)
    if not bound >= 0:  # NaN as well
        raise CalibrationError(f"bound is {bound}", "Give a share from 0 on")
    if not sizes or not sizes[0] or len({tuple(one.chunks for one in size) for size in sizes}) > 1:
        raise CalibrationError("chunk counts of the sizes are none, or differ", "Measure the same ones for every size")
    overhead = _means(sizes, attrgetter("unet_overhead"))
    cost = _means(sizes, lambda one: one.cost(weight))
    kept = [chunks for chunks, value in overhead.items() if value <= bound]
    most = max(kept) if kept else min(overhead, key=lambda chunks: (overhead[chunks], chunks))
    chosen = min((chunks for chunks in cost if chunks <= most), key=lambda chunks: (cost[chunks], chunks))
    return ChunkChoice(chosen, most, bool(kept))


def _means(sizes: Sequence[Sequence[ChunkTimes]], value: Callable[[ChunkTimes], float]) -> Mapping[int, float]:
    columns = zip(*sizes, strict=True)
    return {column[0].chunks: sum(map(value, column)) / len(column) for column in columns}


def check_weight(weight: float) -> None:
    """Raises `CalibrationError` for a weight outside 0 to 1."""
    if not 0 <= weight <= 1:  # NaN as well
        raise CalibrationError(f"weight is {weight}", "Give a number from 0 (decodings alone count) to 1 (rows alone)")


def chunk_figures(
    sizes: Sequence[Sequence[ChunkTimes]], choice: ChunkChoice, weight: float = WEIGHT
) -> dict[str, float]:
    """What a choice was made by, for a table: both overheads of each count, and whether any keeps the bound."""
    figures = {"chunk_cost_weight": weight, "unet_bound": BOUND, "unet_bound_kept": float(choice.bounded)}
    for part in ("unet_overhead", "vae_overhead"):
        means = _means(sizes, attrgetter(part))
        figures |= {f"{part}_{chunks}_chunks": value for chunks, value in means.items()}
    return figures
