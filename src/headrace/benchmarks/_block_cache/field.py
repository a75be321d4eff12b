"""Who takes part in the comparison: block caches of many thresholds and savings, their peers, and fewer steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from headrace.benchmarks._block_cache.peer import BlockCache
from headrace.benchmarks._block_cache.quality import Contestant
from headrace.benchmarks._peers import AttentionBroadcast, DeepCache, FewerSteps, TGate, Uncached
from headrace.models.row_call import Adjustment
from headrace.techniques.block_caching.artefact import Cached, Choice, choose
from headrace.techniques.block_caching.calibrate import Profile
from headrace.techniques.block_caching.displacement import Displacement
from headrace.techniques.block_caching.schedule import saving

DELTAS, QUICK_DELTAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0), (0.0, 0.5)
HEADLINE_DELTA = 0.5  # the paper's sweet spot, section 4.2
TOGETHER_SAVINGS, QUICK_TOGETHER_SAVINGS = (0.1, 0.18, 0.27, 0.36, 0.45, 0.54), (0.27, 0.45)
FEWER, QUICK_FEWER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), (0.7, 0.5)


def field(
    found: Profile, displacements: Mapping[Cached, Displacement], quick: bool, adjusted: Mapping[float, Adjustment]
) -> list[Contestant]:
    """No cache first. The peers whose packages are not installed are left out."""
    contestants = [Contestant(Uncached(), "no cache")]
    for delta in QUICK_DELTAS if quick else DELTAS:
        schedule, _ = choose(found, None, Choice(delta=delta))
        contestants.append(Contestant(BlockCache(f"block cache, delta {delta:g}", schedule), "block cache"))
    for delta, adjustment in adjusted.items():
        schedule, _ = choose(found, None, Choice(delta=delta))
        name = f"block cache with scale-shift, delta {delta:g}"
        contestants.append(Contestant(BlockCache(name, schedule, adjustment), "scale-shift"))
    headline, _ = choose(found, None, Choice(delta=HEADLINE_DELTA))
    target = saving(headline, found.work.share(headline.blocks))
    resnets, delta = choose(found, None, Choice("resnet", saving=target))
    name = f"ResNet blocks at equal saving (delta {delta:.2f})"
    contestants.append(Contestant(BlockCache(name, resnets), "ResNet blocks"))
    savings = QUICK_TOGETHER_SAVINGS if quick else TOGETHER_SAVINGS
    contestants += _together(found, displacements["all"], "all", "all blocks together", savings)
    contestants += _together(found, displacements["branch"], "branch", "deep branch", savings)
    contestants += [Contestant(FewerSteps(share), "fewer steps") for share in (QUICK_FEWER if quick else FEWER)]
    contestants += [Contestant(peer, "pyramid attention broadcast") for peer in _broadcasts(quick)]
    if importlib.util.find_spec("DeepCache") is not None:
        settings = [(3, 1)] if quick else [(2, 1), (3, 1), (5, 1), (2, 0), (3, 0), (5, 0)]
        contestants += [Contestant(DeepCache(interval, branch), "DeepCache") for interval, branch in settings]
    if importlib.util.find_spec("tgate") is not None:
        contestants += [Contestant(TGate(gate), "T-GATE") for gate in _gates(quick, len(found.timesteps))]
    return contestants


def _together(
    found: Profile, displacement: Displacement, kind: Cached, name: str, savings: Sequence[float]
) -> list[Contestant]:
    """What reuses in the same rows, at every saving that it can reach."""
    contestants = []
    reach = displacement.values.shape[1]
    most = found.work.share(displacement.blocks).sum() * reach / (reach + 1)
    for share in savings:
        if share < most:
            schedule, _ = choose(found, displacement, Choice(kind, saving=share, criterion="displacement"))
            contestants.append(Contestant(BlockCache(f"{name}, saving {share:.0%}", schedule), name))
    return contestants


def _broadcasts(quick: bool) -> list[AttentionBroadcast]:
    """Within the timesteps that diffusers documents, and over the whole trajectory, which saves more."""
    if quick:
        return [AttentionBroadcast()]
    ranges = [(2, 2), (2, 6), (4, 8)]
    return [AttentionBroadcast(own, cross) for own, cross in ranges] + [
        AttentionBroadcast(own, cross, timesteps=(-1.0, 1000.0)) for own, cross in ranges
    ]


def _gates(quick: bool, rows: int) -> list[int]:
    """The row from which T-GATE holds the cross-attention, at shares of the trajectory."""
    return [round(rows * share) for share in ((0.5,) if quick else (0.3, 0.5, 0.7))]
