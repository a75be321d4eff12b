"""The figures of a run, by hand-made records."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.errors import ServingError
from headrace.serving.report import Records, expected_similarity, queue_over_time, summarise
from headrace.serving.skip_window import SkipWindow

WINDOW = SkipWindow((0.0, 0.5), (0.25, 0.5), ((0.6, 0.2), (0.9, 0.8)))


def records(**values):
    given = {
        "arrived": [0.0, 1.0, 1.0, 6.0],
        "started": [0.0, 2.0, 3.0, 6.0],
        "denoised": [2.0, 4.0, 5.0, 8.0],
        "finished": [3.0, 5.0, 9.0, 10.0],
        "rows": [4, 4, 8, 4],
        "skips": [0, 1, 4, 0],
        "first_skip": [np.nan, 0.5, 0.5, np.nan],
        "deadline": [np.inf, 5.0, 8.0, np.inf],
    } | values
    return Records(**{name: np.asarray(value) for name, value in given.items()})


def test_every_figure():
    found = summarise(records(), WINDOW)
    assert found.to_dict() == pytest.approx(
        {
            "requests": 4,
            "span_s": 10.0,
            "throughput": 0.4,
            "mean_latency_s": (3 + 4 + 8 + 4) / 4,
            "p50_latency_s": 4.0,
            "p99_latency_s": 4 + 0.97 * 4,
            "mean_waiting_s": 3 / 4,
            "mean_decoding_s": (1 + 1 + 4 + 2) / 4,
            "mean_queue": 0.3,
            "max_queue": 2,
            "deadline_attainment": 0.5,
            "skipped_share": 5 / 20,
            "similarity": (1 + 0.9 + 0.8 + 1) / 4,
            "worst_similarity": 0.8,
        }
    )


def test_what_nobody_knows_is_left_out():
    found = summarise(records(deadline=[np.inf] * 4))
    assert (found.deadline_attainment, found.similarity, found.worst_similarity) == (None, None, None)


def test_similarity_is_that_of_the_window():
    assert expected_similarity(records(), WINDOW).tolist() == pytest.approx([1.0, 0.9, 0.8, 1.0])


def test_queue_over_time():
    times, waiting = queue_over_time(records(), points=11)
    assert times.tolist() == pytest.approx(list(range(11)))
    assert waiting.tolist() == [0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"finished": [3.0, 5.0, 4.0, 10.0]}, "request 2"),
        ({"started": [0.0, 0.5, 3.0, 6.0]}, "request 1"),
        ({"finished": [3.0, np.nan, 9.0, 10.0]}, "request 1"),
        ({"rows": [1, 2]}, "shapes"),
    ],
)
def test_records_that_cannot_be(values, words):
    with pytest.raises(ServingError, match=words):
        records(**values)


def test_no_records():
    with pytest.raises(ServingError, match="at least 1"):
        Records(*(np.zeros(0) for _ in range(8)))
