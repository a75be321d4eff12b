import math

import pytest
from PIL import Image

from headrace.training.curve import plot_curve, smooth
from headrace.training.log import TrainingLog


@pytest.fixture
def log(tmp_path):
    made = TrainingLog(tmp_path / "log.csv")
    for step in range(1, 41):
        made.add(step, {"loss": 1 / step, "gradient_norm": math.inf if step == 7 else 1.0})
        if step == 20:
            made.add(step, {"held_out_loss": 0.5})
    made.add(40, {"held_out_loss": 0.25, "psnr": 20.0})
    made.save()
    return made


def test_a_resumed_log_goes_on_after_its_step_and_a_new_one_begins_anew(log):
    read = TrainingLog(log.path, 40)
    assert read.rows[6]["gradient_norm"] == math.inf
    assert read.series("held_out_loss") == log.series("held_out_loss")
    assert [row["step"] for row in TrainingLog(log.path, 20).rows][-1] == 20
    assert TrainingLog(log.path).rows == []


def test_series_leave_out_what_is_absent_or_not_finite(log):
    assert len(log.series("gradient_norm")[0]) == 39
    assert log.series("psnr") == ([40.0], [20.0])


def test_the_curve_has_one_second_axis_that_says_what_is_on_it(log, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("headrace.training.curve.Figure.savefig", lambda self, *_, **__: figures.append(self))
    monkeypatch.setattr("headrace.training.curve.write_file", lambda path, write: write(path))
    plot_curve(log, tmp_path / "loss.png", "phase", ("held_out_loss", "psnr", "unheard"), 128)
    (figure,) = figures
    loss, scores = figure.axes
    assert loss.get_xlabel() == "optimiser step (128 images each)"
    assert [line.get_label() for line in scores.get_lines()] == ["held_out_loss (right)", "psnr (right)"]
    assert "0.95" in loss.get_lines()[1].get_label()


def test_the_curve_is_a_picture(log, tmp_path):
    plot_curve(log, tmp_path / "loss.png", "phase", ("psnr",), 1)
    assert Image.open(tmp_path / "loss.png").width > 600


def test_the_average_is_corrected_for_its_start():
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smooth([0.0, 1.0], kept=0.5) == pytest.approx([0.0, 2 / 3])
