"""The 3D dynamic programme: how rows and decodings are split into stages (section III-D, equation 3, algorithm 1).

A schedule is a sequence of stages (u_i, v_i, s_i): rows, decodings, and rows that skip their unconditional branch.
The table gives each stage's UNet latency T_u and VAE latency T_v. A stage begins when the rows of the one before are
done; a decoding of stage i is done at sum over k < i of T_u(k), plus T_v(i).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush

import numpy as np

from headrace.errors import ServingError
from headrace.serving.transitions import Floats, Indices, transitions

_TOLERANCE = 1e-12  # sums of the same latencies in another order
_KEPT = 64  # bounds, of 11 KB each for 16 x 8 x 8
_MULTIPLIERS = (0.0, 1.0, 3.0, 8.0, 20.0, 50.0, 200.0, 2000.0)


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows and decodings that run together, and how many of the rows skip."""

    rows: int
    decodings: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Stages in order, the seconds their rows take in all, and the summed completion times of their decodings."""

    stages: tuple[Stage, ...]
    unet_s: float
    cost: float


def check_eta(eta: float) -> None:
    """Raises `ServingError` unless eta is a number from 0 on."""
    if not (isinstance(eta, int | float) and math.isfinite(eta) and eta >= 0):
        raise ServingError(f"eta is {eta}", "Give the share of UNet latency that splitting may cost, such as 0.1")


def within_threshold(unet_s: Sequence[float], vae_s: Sequence[float], eta: float) -> int:
    """Which of some measured schedules has the least VAE latency within (1 + eta) times the first one's UNet latency.

    The first is the coarsest: everything at once. This is how a reader picks from Table I. Raises `ServingError` for
    an eta below 0, or lists that are empty or differ in length.
    """
    check_eta(eta)
    if not unet_s or len(unet_s) != len(vae_s):
        raise ServingError(
            f"{len(unet_s)} UNet latencies and {len(vae_s)} VAE latencies", "Give one of each for every schedule"
        )
    bound = _bound(unet_s[0], eta)
    return min((index for index, unet in enumerate(unet_s) if unet <= bound), key=lambda index: vae_s[index])


class StagePlanner:
    """Optimal schedules for the latencies of one size and chunk count.

    What does not depend on how many rows and decodings there are is kept: bounds on what every state still costs, for
    some prices of UNet time (Lagrange multipliers). They answer most questions at once; where they leave a gap, labels
    (time, cost) are extended best first, every undominated one that can still be part of the answer, so it is exact.
    """

    def __init__(self, unet_s: Floats, vae_s: Floats) -> None:
        """`unet_s` and `vae_s` are seconds [rows, decodings, skipped], each from 0.

        Raises `ServingError` for arrays that are empty, differ in shape, or hold what is no latency.
        """
        if unet_s.ndim != 3 or unet_s.shape != vae_s.shape or unet_s.shape[0] < 2:
            raise ServingError(
                f"the latencies have shapes {unet_s.shape} and {vae_s.shape}",
                "Give both as rows x decodings x skipped, with a row at least",
            )
        if not all(np.isfinite(values).all() and (values >= 0).all() for values in (unet_s, vae_s)):
            raise ServingError("a latency is negative or not finite", "Give seconds")
        self._shape = unet_s.shape
        self._rows, self._decodings, self._skips = (length - 1 for length in unet_s.shape)
        self._transitions = transitions(self._rows, self._decodings, self._skips)
        self._unet = unet_s.ravel()
        self._vae = vae_s.ravel()
        done = np.arange(self._decodings + 1)
        in_stage = np.broadcast_to(done[None, :, None], unet_s.shape).ravel()
        self._waiting = done[:, None] - in_stage[None]  # [decodings left, stage]: those that wait for the stage's rows
        self._decoded = in_stage * self._vae
        self._rests: dict[float, Floats] = {}

    def plan(self, rows: int, decodings: int, skips: int = 0, eta: float = 0.1, weight: float = 0.0) -> Schedule:
        """The schedule with the least sum of completion times.

        Its rows take at most (1 + eta) times what they take in the coarsest schedule: one stage of all rows and
        decodings, with as many skips as make it fastest. `weight` is how many other tasks wait for the rows, as one
        that is to be decoded would: their time counts too (0 in the paper). Time that decodings have waited already is
        the same for all schedules and left out. Among equal costs the coarsest wins. Without rows a stage lasts until
        its decodings are done, and without decodings (and with weight 0) the rows' time is least.

        Raises `ServingError` for counts beyond the latencies, an eta or a weight below 0.
        """
        check_eta(eta)
        if not weight >= 0 or not math.isfinite(weight):
            raise ServingError(f"the weight of waiting tasks is {weight}", "Give how many wait")
        for name, value, most in (
            ("rows", rows, self._rows), ("decodings", decodings, self._decodings), ("skips", skips, self._skips),
        ):  # fmt: skip
            if not 0 <= value <= most:
                raise ServingError(f"{value} {name} are to be planned", f"The latencies know 0 to {most}")
        if rows == 0:
            return self._decode_alone(decodings)
        if not decodings:
            return self._search(rows, 0, min(skips, rows), eta, weight or 1.0)
        return self._quick_end(self._search(rows, decodings, min(skips, rows), eta, weight), skips)

    def coarsest(self, rows: int, decodings: int, skips: int = 0) -> Schedule:
        """One stage of everything, with as many skips as make its rows fastest."""
        if rows == 0:
            return self._of([Stage(0, decodings)] if decodings else [])
        first = self._transitions.flat(rows, decodings, 0)
        skipped = int(np.argmin(self._unet[first : first + min(skips, rows) + 1]))
        return self._of([Stage(rows, decodings, skipped)])

    def _search(self, rows: int, decodings: int, skips: int, eta: float, weight: float) -> Schedule:
        best = self.coarsest(rows, decodings, skips)
        bound = _bound(best.unet_s, eta)
        start = self._transitions.flat(rows, decodings, skips)
        least = best.cost + weight * best.unet_s
        gaps: list[tuple[float, float]] = []  # lower bounds on the cost, and the price that gave them
        low, high = 0, len(_MULTIPLIERS)
        while low < high:  # the price of time at which the cheapest path is just short enough
            middle = low if low == 0 and not gaps else (low + high) // 2
            price = _MULTIPLIERS[middle]
            found = self._cheapest(start, weight + price)
            if found.unet_s <= bound:
                cost = found.cost + weight * found.unet_s
                if cost < least * (1 - 1e-9):
                    best, least = found, cost
                high = middle
            else:
                low = middle + 1
            gaps.append((self._rest(weight + price)[start] - price * bound, price))
            if least - max(gaps)[0] <= least * 1e-9:
                return best
        prices = [price for _, price in sorted(gaps, reverse=True)[:2]]
        return self._labels(start, bound, weight, prices, least) or best

    def _quick_end(self, schedule: Schedule, skips: int) -> Schedule:
        """Rows after the last decoding cost nothing: they are not to be split for nothing."""
        last = max(index for index, stage in enumerate(schedule.stages) if stage.decodings) + 1
        begin, end = schedule.stages[:last], schedule.stages[last:]
        if len(end) < 2:
            return schedule
        rows = sum(stage.rows for stage in end)
        left = min(skips - sum(stage.skipped for stage in begin), rows)
        return self._of([*begin, *self._search(rows, 0, left, 0.0, 1.0).stages])

    def _rest(self, price: float) -> Floats:
        """The least cost from every state to the end at a price of UNet time."""
        found = self._rests.get(price)
        if found is None:
            if len(self._rests) >= _KEPT:
                self._rests.clear()
            costs = self._decoded + (self._waiting + price) * self._unet
            found = self._rests[price] = self._transitions.least(costs)
        return found

    def _costs(self, decodings: int, stages: Indices, price: float) -> Floats:
        """Of stages that may come next where so many decodings are left."""
        costs: Floats = self._decoded[stages] + (self._waiting[decodings, stages] + price) * self._unet[stages]
        return costs

    @cached_property
    def _shortest(self) -> Floats:
        """The least time from every state to the end."""
        return self._transitions.least(np.broadcast_to(self._unet, (self._decodings + 1, len(self._unet))))

    def _cheapest(self, state: int, price: float) -> Schedule:
        """The path of least cost at a price of UNet time, however long it takes."""
        rest = self._rest(price)
        stages = []
        while state:
            left = self._transitions.unflat(state)
            ways, after = self._transitions.of(*left)
            chosen = int(np.argmin(self._costs(left[1], ways, price) + rest[after]))
            stages.append(Stage(*self._transitions.unflat(int(ways[chosen]))))
            state = int(after[chosen])
        return self._of(stages)

    def _labels(
        self, start: int, bound: float, weight: float, prices: Sequence[float], least: float
    ) -> Schedule | None:
        """The cheapest path within the bound that costs less than `least`; None where there is none."""
        shortest = self._shortest
        bounds = [(price, self._rest(weight + price)) for price in prices]
        best: int | None = None
        # state, time, cost, stage and label before; fronts are the undominated (time, cost) of a state
        labels: list[tuple[int, float, float, int, int]] = [(start, 0.0, 0.0, 0, -1)]
        fronts: dict[int, list[tuple[float, float]]] = {}
        queue = [(0.0, 0)]
        while queue:
            expected, number = heappop(queue)
            if expected >= least:
                break
            state, time, cost, _, _ = labels[number]
            if any(t <= time and c <= cost and (t, c) != (time, cost) for t, c in fronts.get(state, ())):
                continue  # a better one came after it
            left = self._transitions.unflat(state)
            ways, after = self._transitions.of(*left)
            times = time + self._unet[ways]
            spent = cost + self._costs(left[1], ways, weight)
            total = spent + bounds[0][1][after] + bounds[0][0] * (times - bound)
            for price, rest in bounds[1:]:
                np.maximum(total, spent + rest[after] + price * (times - bound), out=total)
            hopeful = (times + shortest[after] <= bound) & (total < least * (1 - 1e-9))
            for index in np.flatnonzero(hopeful).tolist():
                reached, at, so_far = int(after[index]), float(times[index]), float(spent[index])
                if so_far >= least or not _undominated(fronts.setdefault(reached, []), at, so_far):
                    continue
                labels.append((reached, at, so_far, int(ways[index]), number))
                if reached == 0:
                    best, least = len(labels) - 1, so_far
                else:
                    heappush(queue, (float(total[index]), len(labels) - 1))
        return None if best is None else self._path(labels, best)

    def _path(self, labels: Sequence[tuple[int, float, float, int, int]], number: int) -> Schedule:
        stages = []
        while number:
            _, _, _, stage, before = labels[number]
            stages.append(Stage(*self._transitions.unflat(stage)))
            number = before
        return self._of(stages[::-1])

    def _decode_alone(self, decodings: int) -> Schedule:
        cost, first = [0.0], [0]
        for left in range(1, decodings + 1):
            ways = [
                (left * float(self._vae[self._transitions.flat(0, many, 0)]) + cost[left - many], -many)
                for many in range(1, left + 1)
            ]
            least, most = min(ways)
            cost.append(least)
            first.append(-most)
        stages = []
        while decodings:
            stages.append(Stage(0, first[decodings]))
            decodings -= first[decodings]
        return self._of(stages)

    def _of(self, stages: Sequence[Stage]) -> Schedule:
        start = unet_s = cost = 0.0
        for stage in stages:
            index = self._transitions.flat(stage.rows, stage.decodings, stage.skipped)
            cost += stage.decodings * (start + float(self._vae[index]))
            unet_s += float(self._unet[index])
            start += float(self._unet[index] if stage.rows else self._vae[index])
        return Schedule(tuple(stages), unet_s, cost)


def _bound(unet_s: float, eta: float) -> float:
    return (1 + eta) * unet_s * (1 + _TOLERANCE)


def _undominated(front: list[tuple[float, float]], time: float, cost: float) -> bool:
    """Whether no label of the front is as good; then it joins, and those that it beats leave."""
    if any(t <= time and c <= cost for t, c in front):
        return False
    front[:] = [(t, c) for t, c in front if t < time or c < cost]
    front.append((time, cost))
    return True
