"""Jobs through a real engine on a pipeline without a network."""

import threading

import pytest

from engine.fake_pipeline import FakePipeline
from headrace.cli.generate_display import GenerateDisplay
from headrace.cli.jobs import read_jobs
from headrace.cli.lookahead import Lookahead
from headrace.cli.picture_writer import PictureWriter
from headrace.cli.pictures import read_settings, write_picture
from headrace.cli.production import Destination, Production
from headrace.engine import Engine, EngineSettings, RoundReport
from headrace.errors import OutputError
from headrace.techniques.guidance.schedule import skip

AHEAD = 6


class Witness:
    """A watcher that remembers."""

    def __init__(self):
        self.rows = self.rounds = 0
        self.pictures, self.failures = [], []

    def planned(self, rows):
        self.rows += rows

    def round(self, report):
        self.rounds += 1
        self.rows -= report.rows

    def picture(self, job, path, settings, made):
        assert read_settings(path) == settings
        self.pictures.append((path.name, made))

    def failure(self, job, error):
        self.failures.append((job.line, str(error)))


@pytest.fixture
def produce(tmp_path):
    """produce(lines) -> tally and witness; every call has a new engine and the same folder."""

    def run(lines, engine=None, weights="w"):
        witness = Witness()
        engine = engine or Engine(FakePipeline(), EngineSettings(slots=3))
        production = Production(engine, Destination(tmp_path, weights), witness, AHEAD)
        jobs = Lookahead(read_jobs(line.encode() for line in lines), AHEAD)
        return production.run(jobs), witness

    return run


def test_a_crowd_is_made_and_every_row_is_accounted_for(produce, tmp_path):
    tally, witness = produce([f'{{"prompt": "p{i}", "steps": {i % 4 + 1}, "n": 2}}' for i in range(10)])
    assert (tally.made, tally.kept, tally.failed) == (20, 0, 0)
    assert witness.rows == 0
    assert len(list(tmp_path.glob("*.png"))) == 20 == len({name for name, _ in witness.pictures})


def test_never_more_than_a_few_requests_are_in_the_engine(produce, monkeypatch):
    engine = Engine(FakePipeline(), EngineSettings(slots=3))
    step, seen = engine.step, []

    def counted():
        report = step()
        seen.append(report.waiting + report.resident + report.finished)
        return report

    monkeypatch.setattr(engine, "step", counted)
    tally, _ = produce(['{"prompt": "p", "steps": 2, "n": 40}'], engine)
    assert tally.made == 40
    assert max(seen) <= AHEAD
    assert seen[0] == AHEAD


def test_finished_pictures_are_not_made_again(produce, tmp_path):
    produce(['{"prompt": "a", "steps": 2, "n": 3}'])
    broken = min(tmp_path.glob("*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    tally, witness = produce(['{"prompt": "a", "steps": 2, "n": 4}'])
    assert (tally.made, tally.kept) == (2, 2)
    assert (broken.name, True) in witness.pictures
    assert read_settings(broken)["prompt"] == "a"


def test_other_weights_make_other_pictures(produce):
    produce(['{"prompt": "a", "steps": 2}'])
    tally, _ = produce(['{"prompt": "a", "steps": 2}'], weights="trained further")
    assert (tally.made, tally.kept) == (1, 0)


def test_the_same_request_twice_is_made_once(produce, tmp_path):
    tally, _ = produce(['{"prompt": "a", "steps": 3}'] * 3)
    assert (tally.made, tally.kept) == (1, 2)
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_failures_are_told_with_their_line_and_the_rest_is_done(produce):
    tally, witness = produce(
        [
            '{"prompt": "a", "steps": 2}',
            "nope",
            '{"prompt": "nan", "steps": 2}',
            '{"prompt": "b", "height": 12}',
            '{"prompt": "c", "solver": "zzz", "n": 5}',
            '{"prompt": "d", "height": 8192, "width": 8192}',
            '{"prompt": "e", "steps": 2}',
        ]
    )
    assert (tally.made, tally.failed) == (2, 9)
    told = dict(witness.failures)
    assert set(told) == {2, 3, 4, 5, 6}
    assert len(witness.failures) == 5  # the five alike of line 5 once
    assert "NaN" in told[3]
    assert "12" in told[4]
    assert "zzz" in told[5]


def test_pictures_are_made_while_a_slow_pipe_says_nothing(produce):
    waiting = threading.Event()
    arrived = []

    def slow():
        yield '{"prompt": "a", "steps": 2}'
        arrived.append(waiting.wait(20))  # set when the first picture is on disk
        yield '{"prompt": "b", "steps": 2}'

    Witness.picture, remembered = _then(waiting.set), Witness.picture
    try:
        tally, _ = produce(slow())
    finally:
        Witness.picture = remembered
    assert arrived == [True]
    assert tally.made == 2


def _then(action):
    def picture(self, job, path, settings, made):
        action()

    return picture


def test_a_full_disk_stops_the_run(produce, monkeypatch):
    def full(*_):
        raise OutputError("no space", "Free some")

    monkeypatch.setattr("headrace.cli.picture_writer.write_picture", full)
    with pytest.raises(OutputError, match="no space"):
        produce(['{"prompt": "a", "steps": 2}'])


def test_the_engine_runs_on_while_a_picture_is_written(produce, monkeypatch, tmp_path):
    """The first picture's thread waits for a request that comes later; the same request again waits for the file."""
    later, read = threading.Event(), threading.Event()

    def slow(path, image, settings):
        if settings["prompt"] == "a":
            assert later.wait(20)
        write_picture(path, image, settings)

    def lines():
        yield '{"prompt": "a", "steps": 1}'
        yield '{"prompt": "b", "steps": 3}'
        yield '{"prompt": "a", "steps": 1}'
        yield '{"prompt": "c", "steps": 2}'
        read.set()

    class Telling(FakePipeline):
        def evaluate(self, rows):
            assert read.wait(20)  # else the first picture may be done before there is anything else to do
            if seen.pop(0) >= 3:
                later.set()
            return super().evaluate(rows)

    seen = list(range(20))
    monkeypatch.setattr("headrace.cli.picture_writer.write_picture", slow)
    tally, witness = produce(lines(), Engine(Telling(), EngineSettings(slots=1)))
    assert (tally.made, tally.kept) == (3, 1)
    assert later.is_set()
    assert len(witness.pictures) == 4


def test_a_slow_disk_holds_the_engine_up_before_memory_fills(tmp_path, monkeypatch):
    go, began = threading.Event(), []

    def slow(path, image, settings):
        began.append(path)
        go.wait(20)

    monkeypatch.setattr("headrace.cli.picture_writer.write_picture", slow)
    with PictureWriter(most=3) as writer:
        for number in range(3):
            assert writer.write(number, tmp_path / str(number), None, {}) == []
        assert writer.written() == []
        assert sorted(writer.pending) == [0, 1, 2]
        threading.Timer(0.05, go.set).start()
        assert writer.write(3, tmp_path / "3", None, {})  # had to wait for one of the three
        assert len(writer.pending) <= 3
        writer.written(everything=True)
        assert writer.pending == []
    assert len(began) == 4


def test_what_is_left_is_reckoned_from_what_is_missing():
    """90 of 100 pictures are there already and each of the others takes 50 rows: 500 rows in all."""
    display = GenerateDisplay(100, as_json=False)
    for _ in range(90):
        display.picture(None, None, {}, made=False)
    for _ in range(4):
        display.planned(50)
    display.round(RoundReport(rows=4))
    [task] = display._bar.tasks
    assert (task.completed, task.total) == (4, 500)


def test_what_reading_raises_is_raised_here():
    def broken():
        yield 1
        raise OSError("unplugged")

    ahead = Lookahead(broken(), 2)
    assert ahead.take(wait=True) == 1
    with pytest.raises(OSError, match="unplugged"):
        ahead.take(wait=True)
    assert ahead.exhausted


def test_a_picture_says_which_of_its_rows_were_left_unguided(produce, tmp_path):
    produce(['{"prompt": "a", "steps": 5}'], Engine(FakePipeline(), decide=lambda plan: skip(plan, [3, 1])))
    produce(['{"prompt": "a", "steps": 5, "guidance_scale": 1}'], Engine(FakePipeline()))
    partly, never = sorted(map(read_settings, tmp_path.glob("*.png")), key=lambda found: -found["guidance_scale"])
    assert partly["unguided_rows"] == [1, 3]
    assert "unguided_rows" not in never
