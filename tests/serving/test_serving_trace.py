"""Traces: what files hold is what comes out, and what cannot be is refused with its line."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import OutputError, TraceError
from headrace.serving.arrivals import Mix, burst, poisson
from headrace.serving.trace import Trace, load_trace

HEADER = "time,height,width,steps"


def equal(one: Trace, other: Trace) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def written(tmp_path, *lines):
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_saved_is_loaded(tmp_path, suffix):
    trace = poisson(50, 3.0, Mix(guided=0.5, patience=20.0), seed=4)
    trace.save(tmp_path / f"trace{suffix}")
    assert equal(load_trace(tmp_path / f"trace{suffix}"), trace)


def test_a_trace_without_deadlines_survives_too(tmp_path):
    trace = poisson(3, 1.0)
    trace.save(tmp_path / "trace.csv")
    assert np.isinf(load_trace(tmp_path / "trace.csv").deadline).all()


def test_columns_in_any_order_with_defaults(tmp_path):
    trace = load_trace(written(tmp_path, "steps,width,user,height,time", "20,768,ann,512,0", "30,512,bob,512,1.5"))
    assert trace.sizes == [(512, 512), (512, 768)]
    assert trace.steps.tolist() == [20, 30]
    assert trace.time.tolist() == [0.0, 1.5]
    assert trace.guided.all()
    assert trace.priority.tolist() == [0, 0]
    assert trace.deadline.tolist() == [math.inf, math.inf]


def test_options_may_be_empty_here_and_there(tmp_path):
    lines = (HEADER + ",guided,priority,deadline", "0,512,512,20,no,,9.5", "1,512,512,20,,3,", "1,512,512,20,TRUE,-1,7")
    trace = load_trace(written(tmp_path, *lines))
    assert trace.guided.tolist() == [False, True, True]
    assert trace.priority.tolist() == [0, 3, -1]
    assert trace.deadline.tolist() == [9.5, math.inf, 7.0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("time,height,width", "0,1,1"), ["no column steps", "time, height, width"]),
        ((HEADER,), ["no requests"]),
        (("",), ["no column time, height, width, steps"]),
        ((HEADER, "0,512,512,20", "2,512,512,20", "1.5,512,512,20"), ["line 4", "goes back from 2.0 to 1.5", "Sort"]),
        ((HEADER, "0,512,512,20", "1,512,512,twenty"), ["line 3", "steps is 'twenty'", "whole number"]),
        ((HEADER, "0,512,512,20.5"), ["line 2", "steps is '20.5'"]),
        ((HEADER, "0,512,512,"), ["line 2", "steps is empty"]),
        ((HEADER, "0,512,4,20"), ["line 2", "width is 4", "8 to 8192"]),
        ((HEADER, "0,512,512,0"), ["line 2", "steps is 0", "1 to 1000"]),
        ((HEADER, "-1,512,512,20"), ["line 2", "time is -1.0"]),
        ((HEADER, "nan,512,512,20"), ["line 2", "time is nan"]),
        ((HEADER, "inf,512,512,20"), ["line 2", "time is inf"]),
        ((HEADER + ",guided", "0,512,512,20,maybe"), ["line 2", "guided is 'maybe'", "true or false"]),
        ((HEADER + ",deadline", "5,512,512,20,4"), ["line 2", "deadline is 4.0", "after the arrival"]),
        ((HEADER + ",priority", "5,512,512,20,99999999"), ["line 2", "priority is 99999999"]),
        ((HEADER, "0,512,512,99999999999999999999999"), ["line 2", "steps is '99999999999999999999999'"]),
        ((HEADER, "0,512,512,20", "1,512"), ["trace.csv", "#3"]),
        ((HEADER, "0,512,512,20", "", "1,512,512,20"), ["line 3", "time is empty"]),
    ],
)
def test_what_is_refused(tmp_path, lines, words):
    with pytest.raises(TraceError) as caught:
        load_trace(written(tmp_path, *lines))
    for word in words:
        assert word in str(caught.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00time")
    (tmp_path / "text.parquet").write_text("time")
    for name in ("bytes.csv", "text.parquet", "missing.csv", "missing.parquet"):
        with pytest.raises(TraceError, match=name):
            load_trace(tmp_path / name)


def test_rows_of_parquet_are_counted_from_one(tmp_path):
    columns = {"time": [0.0, 1.0], "height": [512, 512], "width": [512, 512], "steps": [20, 5000]}
    pq.write_table(pa.table(columns), tmp_path / "trace.parquet")
    with pytest.raises(TraceError, match=r"row 2: steps is 5000"):
        load_trace(tmp_path / "trace.parquet")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        poisson(2, 1.0).save(tmp_path / "file" / "trace.csv")


@given(st.integers(1, 400), st.floats(0.01, 100), st.integers(0, 10), st.sampled_from([poisson, burst]))
@settings(max_examples=50, deadline=None)
def test_drawn_traces_are_traces_and_their_seed_says_all(count, rate, seed, draw):
    mix = Mix(sizes=((64, 64), (128, 96)), steps=(3, 5), patience=10.0)
    trace = draw(count, rate, mix, seed)
    assert equal(trace, draw(count, rate, mix, seed))
    assert len(trace) == count
    assert (np.diff(trace.time) >= 0).all()
    assert set(trace.sizes) <= {(64, 64), (128, 96)}
    assert set(trace.steps.tolist()) <= {3, 4, 5}
    assert np.allclose(trace.deadline - trace.time, 10.0)


def test_poisson_arrivals_are_independent_and_of_the_asked_rate():
    gaps = np.diff(poisson(20_000, 4.0).time)
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_other_rates_ask_for_the_same():
    slow, fast = poisson(30, 1.0, seed=3), poisson(30, 2.0, seed=3)
    assert np.allclose(slow.time, 2 * fast.time)
    assert np.array_equal(slow.steps, fast.steps)
    assert not poisson(30, math.inf).time.any()


def test_half_of_a_burst_comes_within_a_short_interval():
    time = burst(2000, 5.0).time
    width = 1000
    shortest = (time[width - 1 :] - time[: len(time) - width + 1]).min()
    assert shortest < 0.06 * time[-1]
    outside = burst(2000, 5.0, share=0.25).time
    assert (outside[width - 1 :] - outside[: len(outside) - width + 1]).min() > 0.2 * outside[-1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: poisson(0, 1.0),
        lambda: poisson(1, 0.0),
        lambda: poisson(1, float("nan")),
        lambda: burst(10, -1.0),
        lambda: burst(10, 1.0, share=1.0),
        lambda: burst(10, 1.0, length=0.0),
        lambda: Mix(sizes=()),
        lambda: Mix(sizes=((4, 512),)),
        lambda: Mix(steps=(20, 10)),
        lambda: Mix(guided=1.5),
        lambda: Mix(patience=0.0),
    ],
)
def test_what_cannot_be_drawn(make):
    with pytest.raises(TraceError):
        make()


def test_the_first_of_a_trace():
    trace = poisson(10, 1.0)
    assert equal(trace.first(4), Trace(**{name: column[:4] for name, column in vars(trace).items()}))
