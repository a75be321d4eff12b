"""How fast the engine was seen to be: what a picture should take is said from that."""

from __future__ import annotations

import threading

from headrace.service import RoundSeen

_FORGET = 0.98  # of what was seen, per round
_SOLVERS_OF_TWO_ROWS = ("heun", "kdpm2")


class Pace:
    """Seconds of the network per pixel and branch, and of the decoder per pixel, recent rounds weighing most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unet_s = self._area = 0.0
        self._decode_s = self._decoded = 0.0

    def saw_round(self, seen: RoundSeen) -> None:
        """Learns from a round. For any thread."""
        area = sum(row.height * row.width * (2 if row.guided else 1) for row in seen.rows)
        with self._lock:
            if area and seen.unet_s > 0:
                self._unet_s = self._unet_s * _FORGET + seen.unet_s
                self._area = self._area * _FORGET + area
            # Every row leads to a part of a picture, so both sums grow alike while the engine is busy.
            self._decode_s = self._decode_s * _FORGET + seen.decode_s
            self._decoded = self._decoded * _FORGET + sum(row.height * row.width / row.rows for row in seen.rows)

    def seconds(self, area: float, pixels: float) -> float | None:
        """Of `area` pixels times branches through the network and `pixels` through the decoder; None: nothing seen."""
        with self._lock:
            if not self._area:
                return None
            decoding = self._decode_s / self._decoded * pixels if self._decoded else 0.0
            return self._unet_s / self._area * area + decoding


def rows_of(steps: int, solver: str) -> int:
    """Evaluations of a plan, as far as they can be told without tracing the solver: some evaluate twice a step."""
    return 2 * steps - 1 if solver.startswith(_SOLVERS_OF_TWO_ROWS) else steps
