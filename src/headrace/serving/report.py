"""What a run came to: throughput, latency, deadlines, queue and quality; by the same definitions, simulated or real."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ServingError
from headrace.serving.skip_window import SkipWindow

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Records:
    """What became of each request that was served, one element a request; seconds on one clock.

    Attributes:
        arrived: when it was submitted, [N].
        started: when it got a slot, [N].
        denoised: when its last row was done, [N].
        finished: when its picture was decoded, [N].
        rows: plan rows it has, [N].
        skips: rows whose unconditional branch the scheduler left out, [N].
        first_skip: progress (row / rows) of the first of them; NaN where there is none, [N].
        deadline: when it should have been done; infinite where it had none, [N].

    Raises `ServingError` for shapes that differ, no requests, or moments out of order.
    """

    arrived: Floats
    started: Floats
    denoised: Floats
    finished: Floats
    rows: Counts
    skips: Counts
    first_skip: Floats
    deadline: Floats

    def __post_init__(self) -> None:
        shapes = {np.shape(value) for value in vars(self).values()}
        if len(shapes) != 1 or len(self.arrived) == 0:
            raise ServingError(f"records of shapes {sorted(shapes)}", "Give columns of one length, at least 1")
        moments = np.stack([self.arrived, self.started, self.denoised, self.finished])
        bad = ~(np.diff(moments, axis=0) >= 0).all(axis=0)
        if bad.any():
            row = int(np.argmax(bad))
            raise ServingError(
                f"request {row} arrived, started, was denoised and finished at {moments[:, row].tolist()}",
                "Give moments in that order, of requests that are done",
            )

    def __len__(self) -> int:
        return len(self.arrived)

    @property
    def latency(self) -> Floats:
        """From arrival to the picture, seconds, [N]."""
        return self.finished - self.arrived

    @property
    def span(self) -> float:
        """From the first arrival to the last picture, seconds."""
        return float(self.finished.max() - self.arrived.min())


@dataclass(frozen=True)
class Report:
    """The figures of a run.

    Attributes:
        requests: served.
        span_s: from the first arrival to the last picture.
        throughput: requests a second over that span.
        mean_latency_s, p50_latency_s, p99_latency_s: from arrival to the picture.
        mean_waiting_s: from arrival to a slot.
        mean_decoding_s: from the last row to the picture.
        mean_queue, max_queue: requests without a slot, over time.
        deadline_attainment: share of the requests with a deadline that met it; None where none has one.
        skipped_share: rows whose unconditional branch was left out, of all rows.
        similarity, worst_similarity: of the pictures to those without skips, as the window expects it, mean and least;
            None where no window is known.
    """

    requests: int
    span_s: float
    throughput: float
    mean_latency_s: float
    p50_latency_s: float
    p99_latency_s: float
    mean_waiting_s: float
    mean_decoding_s: float
    mean_queue: float
    max_queue: int
    deadline_attainment: float | None
    skipped_share: float
    similarity: float | None
    worst_similarity: float | None

    def to_dict(self) -> dict[str, float | None]:
        """By name, as JSON values."""
        return asdict(self)


def summarise(records: Records, window: SkipWindow | None = None) -> Report:
    """The figures of `records`. Percentiles interpolate linearly between order statistics."""
    latency, span = records.latency, records.span
    p50, p99 = np.percentile(latency, [50, 99])
    waiting = records.started - records.arrived
    similarity = None if window is None else expected_similarity(records, window)
    return Report(
        requests=len(records),
        span_s=span,
        throughput=len(records) / span if span > 0 else float("inf"),
        mean_latency_s=float(latency.mean()),
        p50_latency_s=float(p50),
        p99_latency_s=float(p99),
        mean_waiting_s=float(waiting.mean()),
        mean_decoding_s=float((records.finished - records.denoised).mean()),
        mean_queue=float(waiting.sum() / span) if span > 0 else 0.0,
        max_queue=_longest_queue(records),
        deadline_attainment=_attainment(records),
        skipped_share=float(records.skips.sum() / records.rows.sum()),
        similarity=None if similarity is None else float(similarity.mean()),
        worst_similarity=None if similarity is None else float(similarity.min()),
    )


def expected_similarity(records: Records, window: SkipWindow) -> Floats:
    """Similarity of each picture to the one without skips, from where skipping began and how many rows it took, [N]."""
    found = np.ones(len(records))
    skipped = np.flatnonzero(records.skips)
    shares = records.skips[skipped] / records.rows[skipped]
    for index, start, share in zip(skipped, records.first_skip[skipped].tolist(), shares.tolist(), strict=True):
        found[index] = window.expected(start, share)
    return found


def queue_over_time(records: Records, points: int = 400) -> tuple[Floats, Counts]:
    """Seconds since the first arrival, and how many requests had no slot then, at `points` equal distances."""
    times = np.linspace(records.arrived.min(), records.finished.max(), points)
    arrived = np.searchsorted(np.sort(records.arrived), times, side="right")
    started = np.searchsorted(np.sort(records.started), times, side="right")
    return times - times[0], (arrived - started).astype(np.int64)


def _longest_queue(records: Records) -> int:
    """The most requests without a slot at one moment; who gets a slot on arrival was never in the queue."""
    arrived = np.sort(records.arrived)
    started = np.sort(records.started)
    return int((np.arange(1, len(arrived) + 1) - np.searchsorted(started, arrived, side="right")).max(initial=0))


def _attainment(records: Records) -> float | None:
    bound = np.isfinite(records.deadline)
    if not bound.any():
        return None
    return float((records.finished[bound] <= records.deadline[bound]).mean())
