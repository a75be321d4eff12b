"""What a cluster refuses before any replica is asked: pure, with time passed in."""

from __future__ import annotations

from collections.abc import Collection

from headrace.errors import BusyError, DeadlineError
from headrace.service.checks import check_wish
from headrace.service.cluster.forecast import Standing, choose, row_seconds, rows_of
from headrace.service.model_card import ModelCard
from headrace.service.wish import Wish


def refuse(
    wish: Wish, card: ModelCard, standings: Collection[Standing], held: int, limits: tuple[int, float], now: float
) -> None:
    """Raises `RequestError`, `BusyError` or `DeadlineError` for a wish that should not be taken.

    `held`: wishes that are not over. `limits`: how many of them one replica may have, and the most seconds that a
    picture may take. Replicas know more and refuse more; this is what is known without a call.
    """
    check_wish(wish, card)
    queue, max_wait_s = limits
    taking = [one for one in standings if one.takes(now)]
    row_s = row_seconds(standings)
    if held >= queue * max(1, len(taking)):
        one_s = [one.clear_s(now, row_s) / len(one.sent) for one in taking if one.sent]
        raise _busy(f"{held} wishes are held, as many as {max(1, len(taking))} replicas take", min(one_s, default=1.0))
    best = choose(standings, rows_of(wish, card), now)
    if best is None:
        return
    expected_s = best[1]
    if wish.timeout_s is not None and expected_s > wish.timeout_s:
        problem = f"it should take {expected_s:.1f} s, and {wish.timeout_s:g} s were given"
        raise DeadlineError(problem, expected_s, "Give more time, or ask for fewer steps")
    if expected_s > max_wait_s:
        problem = f"it should take {expected_s:.0f} s, and no request waits longer than {max_wait_s:g} s"
        raise _busy(problem, expected_s - max_wait_s)


def _busy(problem: str, after_s: float) -> BusyError:
    after_s = max(1.0, after_s)
    return BusyError(problem, after_s, f"Ask again in {after_s:.0f} s")
