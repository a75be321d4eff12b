"""Which rows share an evaluation of the network, where it evaluates K images at once (FuseBatch).

A group is up to K rows that the network is told the same timestep for, and that agree in the plan's columns on which a
group has to. One that is short is padded by the engine (`headrace.engine.layout`), or falls back to a smaller K that
there is a network for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# What an image costs beside the evaluation that it shares, as a share of that: its own fusion, unfusion and head. For
# the paper's CIFAR-10 network it is 0.5% (Table 1: 25.5% of the operations at K=4, and not 25%).
IMAGE_COST = 0.005


@dataclass(frozen=True, slots=True)
class FusedRow:
    """What grouping must know of a row: the K that its plan wants, what the network is told, and its branches.

    `keys` are what else the rows of a group must agree on: the values of the plan's `group_key` columns.
    """

    fusion: int
    timestep: float
    input_scale: float
    guided: bool = False
    keys: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Places of at most `fusion` rows that are evaluated together; with fewer, the group is padded."""

    fusion: int
    members: tuple[int, ...]


def group(rows: Sequence[FusedRow], factors: Collection[int]) -> list[Group]:
    """Every row in one group, from the largest K to the smallest. `factors` have a network; rows' own are among them.

    Rows of one K, timestep, input scale and keys come together in their order, guided ones first, so that their
    unconditional branches fill groups too. Those left over go to the cheapest K (`cheapest`), where they may join rows
    whose own K that is; no row ever goes to a larger K than its own.
    """
    ordered = sorted(factors, reverse=True)
    waiting: dict[int, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        waiting[row.fusion].append(place)
    groups: list[Group] = []
    for fusion in ordered:
        if fusion == 1:
            groups += [Group(1, (place,)) for place in sorted(waiting[1])]
            break
        for alike in _alike(rows, waiting[fusion]):
            whole = len(alike) // fusion * fusion
            groups += [Group(fusion, tuple(alike[start : start + fusion])) for start in range(0, whole, fusion)]
            left = alike[whole:]
            if not left:
                continue
            better = cheapest(len(left), [factor for factor in ordered if factor <= fusion])
            if better == fusion:
                groups.append(Group(fusion, tuple(left)))
            else:
                waiting[better] += left
    return groups


def cheapest(rows: int, factors: Collection[int]) -> int:
    """The K at which so many rows of one timestep cost least, the smaller one among equals.

    They take ceil(rows / K) evaluations, each of which costs `evaluation_cost`. With 1, 2 and 4, three rows go to one
    evaluation at K=4 with a place to spare rather than to two, and one row is not fused.
    """
    return min(sorted(factors), key=lambda factor: -(-rows // factor) * evaluation_cost(factor))


def evaluation_cost(fusion: int) -> float:
    """Of one network evaluation of a group of K, where the part that is shared costs 1."""
    return 1.0 + IMAGE_COST * fusion


def _alike(rows: Sequence[FusedRow], places: Sequence[int]) -> list[list[int]]:
    """Places whose rows the network is told the same for, guided ones first."""
    found: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for place in sorted(places):
        row = rows[place]
        found[row.timestep, row.input_scale, *row.keys].append(place)
    return [sorted(alike, key=lambda place: not rows[place].guided) for alike in found.values()]
