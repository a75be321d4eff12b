"""Cutting the time line into intervals: the paper's Algorithms 1 and 2, and the three methods that it compares with.

All but Algorithm 1 put the timesteps of a grid into consecutive groups of least total cost. What a group costs is a
table, so dynamic programming finds the best cuts exactly, whatever the cost is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import CalibrationError

Floats = NDArray[np.float64]
Objective = Literal["mean", "sum"]


def find_ends(times: Floats, to_image: Floats, to_noise: Floats, alpha: float) -> tuple[float, float]:
    """t_1 and t_2 of Algorithm 1 (lines 10 and 11), the similarity of every sample given.

    t_1 is the largest time up to which the samples' mean similarity to time 0 is at least `alpha`, t_2 the smallest
    from which on that to time 1 is; arrays [K] in any order. Raises `CalibrationError` for an alpha outside (0, 1), no
    samples, where no time has it, or where the two overlap.
    """
    if not 0 < alpha < 1:
        raise CalibrationError(f"alpha {alpha:g} is not between 0 and 1", "The paper has 0.9")
    if len(times) == 0:
        raise CalibrationError("there are no samples to find stages in", "Use at least one")
    order = np.argsort(times, kind="stable")
    ordered, counts = times[order], np.arange(1, len(times) + 1)
    below = np.cumsum(to_image[order]) / counts
    above = (np.cumsum(to_noise[order][::-1]) / counts)[::-1]
    early, late = np.flatnonzero(below >= alpha), np.flatnonzero(above >= alpha)
    if early.size == 0 or late.size == 0:
        raise CalibrationError(
            f"no stage at the {'image' if early.size == 0 else 'noise'} has a mean similarity of {alpha:g}: "
            f"at most {(below if early.size == 0 else above).max():.3f}",
            "Use a smaller alpha, a larger eta or more samples",
        )
    first, last = float(ordered[early[-1]]), float(ordered[late[0]])
    if not first < last:
        raise CalibrationError(
            f"the stages overlap: the first ends at {first:.3f}, the last begins at {last:.3f}",
            "Use a larger alpha or a smaller eta",
        )
    return first, last


def cut(costs: Floats, stages: int, least: int = 1, most: int | None = None) -> tuple[int, ...]:
    """The first timestep of every group but the first, for the least total cost; exact, by dynamic programming.

    `costs` [G, G + 1]: what the group of timesteps i, ..., j - 1 costs stands at [i, j]. A group has `least` to `most`
    timesteps. Of equal solutions, the one that begins its last groups earliest. Raises `CalibrationError` where G
    timesteps do not make that many groups.
    """
    nodes = len(costs)
    most = nodes if most is None else most
    if stages < 1 or not stages * least <= nodes <= stages * most:
        raise CalibrationError(
            f"{nodes} timesteps do not make {stages} groups of {least} to {most}", "Use another number of stages"
        )
    starts, ends = np.indices(costs.shape)
    allowed = (ends - starts >= least) & (ends - starts <= most)
    priced = np.where(allowed, costs, np.inf)
    total = priced[0]  # [G + 1]: the least that timesteps 0, ..., j - 1 cost in the groups so far
    choices = []
    for _ in range(stages - 1):
        through = total[:nodes, None] + priced
        choices.append(through.argmin(0))
        total = through.min(0)
    cuts, end = [], nodes
    for choice in reversed(choices):
        end = int(choice[end])
        cuts.append(end)
    return tuple(reversed(cuts))


def dissimilarity_costs(similarity: Floats, objective: Objective = "sum") -> Floats:
    """What groups cost by their similarity [G, G] inside, as [G, G + 1] for `cut`.

    "sum": the dissimilarities of all pairs added up, the integrals of equation 22 (which needs a distance, and has a
    similarity where it is printed). "mean": the mean dissimilarity of a group, so that groups count alike whatever
    their size. Sums favour groups of one length, as pairs grow with its square.
    """
    sums = np.zeros((len(similarity) + 1, len(similarity) + 1))
    sums[1:, 1:] = np.cumsum(np.cumsum(1 - similarity, axis=0), axis=1)
    starts, ends = np.indices((len(similarity), len(similarity) + 1))
    inside = sums[ends, ends] - sums[starts, ends] - sums[ends, starts] + sums[starts, starts]
    return inside if objective == "sum" else inside / np.maximum(ends - starts, 1) ** 2


def centre_costs(distance: Floats) -> Floats:
    """What groups cost by the distances [G, G] of all their timesteps from the one in their middle.

    The interval clustering of Go et al. (arXiv 2306.00354), for any distance: of timesteps, of log-SNR, or one that
    falls with the affinity of gradients. [G, G + 1] for `cut`.
    """
    sums = np.zeros((len(distance), len(distance) + 1))
    sums[:, 1:] = np.cumsum(distance, axis=1)
    starts, ends = np.indices(sums.shape)
    centres = np.clip((starts + ends) // 2, 0, len(distance) - 1)
    return sums[centres, ends] - sums[centres, starts]


def cut_around_centres(distance: Floats, stages: int) -> tuple[int, ...]:
    """The cuts of Go et al.: no group has less than half or more than one and a half of an even share.

    Raises `CalibrationError` where G timesteps do not make that many groups.
    """
    share = len(distance) / max(stages, 1)
    return cut(centre_costs(distance), stages, max(1, int(share / 2)), int(np.ceil(1.5 * share)))
