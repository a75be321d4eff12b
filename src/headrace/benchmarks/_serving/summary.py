"""What a load came to: throughput, latency, previews, deadlines, errors by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from headrace.benchmarks._serving.outcome import DONE, KINDS, LOST, REFUSED, Outcome


@dataclass(frozen=True)
class Summary:
    """The figures of one load on one server.

    Latencies are of the requests that were done, from when each should have been sent, so that neither a slow server
    nor a slow sender hides its delays (no coordinated omission). Percentiles interpolate linearly.

    Attributes:
        requests: that were sent.
        done: whose pictures all came.
        images: of them.
        span_s: from the first arrival to the last picture, summed over the turns.
        throughput: images a second over that span.
        mean_s, p50_s, p95_s, p99_s: latency; None where none was done.
        preview_mean_s, preview_p50_s, preview_p95_s: until the first partial image, of those that had one.
        attainment: share of the requests with a deadline that met it, refused ones included; None where none has one.
        refused: answered with 429.
        lost: sent, and never answered in full.
        errors: by kind, those that came, refusals and losses among them.
        errors_5xx: answered with a status of 500 or more.
        extra: pictures that came beyond those that were asked for.
        late_s: by how much the sender itself was late, the 99th percentile: well below the latencies, or the figures
            say more of the sender than of the server.
    """

    requests: int
    done: int
    images: int
    span_s: float
    throughput: float
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    preview_mean_s: float | None
    preview_p50_s: float | None
    preview_p95_s: float | None
    attainment: float | None
    refused: int
    lost: int
    errors: dict[str, int]
    errors_5xx: int
    extra: int
    late_s: float

    def to_dict(self) -> dict[str, object]:
        """By name, as JSON values, rounded to a tenth of a millisecond."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def summarise(turns: Sequence[Sequence[Outcome]]) -> Summary:
    """The figures of a load that was sent in one or more turns: requests are pooled, spans are added."""
    outcomes = [one for turn in turns for one in turn]
    done = [one for one in outcomes if one.kind == DONE]
    images = sum(one.asked for one in done)
    span = sum(_span(turn) for turn in turns)
    mean, p50, p95, p99 = _figures([one.latency_s for one in done])
    preview_mean, preview_p50, preview_p95, _ = _figures(
        [None if one.first_preview is None else one.first_preview - one.at for one in outcomes]
    )
    hurried = [one for one in outcomes if one.patience_s is not None]
    kinds = Counter(one.kind for one in outcomes)
    return Summary(
        requests=len(outcomes), done=len(done), images=images, span_s=span,
        throughput=images / span if span > 0 else 0.0,
        mean_s=mean, p50_s=p50, p95_s=p95, p99_s=p99,
        preview_mean_s=preview_mean, preview_p50_s=preview_p50, preview_p95_s=preview_p95,
        attainment=sum(one.in_time for one in hurried) / len(hurried) if hurried else None,
        refused=kinds[REFUSED], lost=kinds[LOST],
        errors={kind: kinds[kind] for kind in KINDS if kind != DONE and kinds[kind]},
        errors_5xx=sum(one.status is not None and one.status >= 500 for one in outcomes),
        extra=sum(one.extra for one in outcomes),
        late_s=_figures([None if one.sent is None else one.sent - one.at for one in outcomes])[3] or 0.0,
    )  # fmt: skip


def _span(turn: Sequence[Outcome]) -> float:
    """From a turn's first arrival to its last picture; 0 where none came."""
    ends = [one.done for one in turn if one.kind == DONE and one.done is not None]
    return max(ends) - min(one.at for one in turn) if ends else 0.0


def _figures(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None, float | None]:
    """Mean and the percentiles 50, 95 and 99 of those that are there."""
    known = [value for value in values if value is not None]
    if not known:
        return None, None, None, None
    p50, p95, p99 = (float(value) for value in np.percentile(known, [50, 95, 99]))
    return sum(known) / len(known), p50, p95, p99
