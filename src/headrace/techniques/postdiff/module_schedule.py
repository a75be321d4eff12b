"""Which rows evaluate the deep branch and the cross-attentions: PostDiff's hybrid module caching.

Supplement, appendices C and G: the deep branch changes little from one row to the next and is evaluated in every k-th;
what the text says settles early, and cross-attention is evaluated in the first share m of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.errors import PlanError
from headrace.plan import Plan

INTERVAL = 2  # k
SHARE = 0.75  # m


def module_caching(plan: Plan, blocks: Sequence[str], interval: int = INTERVAL, share: float = SHARE) -> Plan:
    """The plan with the columns of `compute` filled that belong to deep branches and cross-attentions.

    `blocks` are the paths of the cached blocks in the order of the columns. Branches ("branch.0.0") are evaluated
    `interval` = k rows after their last evaluation, cross-attentions (paths ending in "attn2") in the first
    round(`share` R) of R rows, the first one always; both also wherever guidance comes on or the scale changes. k = 1
    and m = 1 evaluate everything. Blocks of another kind keep what the plan decides; where it decides nothing yet, they
    are evaluated. Raises `PlanError` for k < 1, m outside [0, 1], or a plan that decides on another number of blocks.
    """
    check_interval(interval)
    check_share(share)
    if plan.blocks not in (0, len(blocks)):
        raise PlanError(
            f"the plan decides on {plan.blocks} blocks, and {len(blocks)} are cached",
            "Fill compute for the blocks of one cache",
        )
    fresh = _fresh(plan)
    columns = np.ones((len(plan), len(blocks)), np.bool_) if plan.blocks == 0 else plan.compute.copy()
    columns[:, [_is_branch(path) for path in blocks]] = _every(fresh, interval)[:, None]
    early = np.arange(len(plan)) < round(share * len(plan))
    columns[:, [_is_cross_attention(path) for path in blocks]] = (early | fresh)[:, None]
    return plan.with_columns(compute=columns)


def check_interval(interval: int) -> None:
    """Raises `PlanError` where `interval` is no number of rows from one evaluation to the next."""
    if interval < 1 or interval != int(interval):
        raise PlanError(f"the deep branch is to be evaluated every {interval} rows", "Give a whole number k, 1 or more")


def check_share(share: float) -> None:
    """Raises `PlanError` where `share` is no share of the rows."""
    if not 0 <= share <= 1:  # NaN as well
        raise PlanError(f"cross-attention is to be evaluated in a share {share} of the rows", "Give m, 0 to 1")


def _fresh(plan: Plan) -> NDArray[np.bool_]:
    """[R] rows that cannot reuse: the first, and those whose guidance comes on or whose latents change their size."""
    guided = plan.guidance != 1
    fresh: NDArray[np.bool_] = np.ones(len(plan), np.bool_)
    fresh[1:] = (guided[1:] & ~guided[:-1]) | (plan.scale[1:] != plan.scale[:-1])
    return fresh


def _every(fresh: NDArray[np.bool_], interval: int) -> NDArray[np.bool_]:
    """[R] every `interval`-th row, counted anew from each fresh one."""
    rows = np.arange(len(fresh))
    last = np.maximum.accumulate(np.where(fresh, rows, 0))
    return np.asarray((rows - last) % interval == 0)


def _is_branch(path: str) -> bool:
    return path.startswith("branch.")


def _is_cross_attention(path: str) -> bool:
    return path.endswith(".attn2")
