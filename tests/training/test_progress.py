import pytest

from headrace.training.progress import Display


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("headrace.training.progress.time.monotonic", lambda: now[0])
    return now


def test_the_time_left_is_judged_from_where_this_run_began(clock, capfd):
    """A resumed run at half: a quarter of the whole in 50 seconds leaves a quarter, another 50."""
    display = Display("phase", 100)
    display.begin(0.5)
    clock[0] += 50
    display.update(75, 0.25, 0.75, 12.0)
    assert capfd.readouterr().err == "phase: step 75/100  loss 0.25  12.0 images/s  0:50 left\n"


def test_long_lines_are_not_broken_and_other_processes_are_silent(capfd):
    Display("phase", 1).say("word " * 60)
    assert len(capfd.readouterr().err.splitlines()) == 1
    Display("phase", 1, shown=False).say("word")
    assert capfd.readouterr().err == ""
