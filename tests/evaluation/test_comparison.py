"""Reports: written, read, and put side by side."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Canvas

from headrace.errors import DataError
from headrace.evaluation.comparison import best_trades, compare_reports, pareto, plotted_column
from headrace.evaluation.comparison_plot import plot
from headrace.evaluation.figures import Figure
from headrace.evaluation.report import Report, read_report


def report(name="model", steps=10, speed=None, figures=(), data="d", device="cpu"):
    return Report(
        headrace="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        name=name,
        settings={"steps": steps, "solver": "ddim"},
        data={"digest": data},
        figures=list(figures),
        cost={} if speed is None else {"images_per_second": speed},
        machine={"device": device, "threads": 2},
    )


def distance(value, extractor="a", digest="1", samples=100, metric="frechet_distance"):
    return Figure(metric, value, None, extractor, digest, samples, 1000)


def test_a_report_reads_as_it_was_written(tmp_path):
    written = report(figures=[distance(1.5), Figure("psnr", 30.0, 2.0)], speed=3.0)
    written.write(tmp_path / "a.json")
    assert read_report(tmp_path / "a.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_report_is_strict_json(tmp_path):
    report().model_copy(update={"settings": {"x": math.inf}}).write(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert content["settings"] == {"x": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[]", "holds a list"), ('{"name": 3}', "no report"), ('{"pixels": 3}', "no report")],
)
def test_files_that_are_no_reports(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_report(tmp_path / "a.json")
    with pytest.raises(DataError, match="No such file"):
        read_report(tmp_path / "b.json")


def test_different_extractors_and_digests_never_share_a_column():
    first = report(figures=[distance(1.0)])
    other = report(steps=20, figures=[distance(9.0, extractor="b"), distance(2.0, digest="22222222x")])
    comparison = compare_reports([first, other])
    assert len(comparison.columns) == 3
    assert [comparison.title(column) for column in comparison.columns] == [
        "frechet_distance [a 1]", "frechet_distance [b]", "frechet_distance [a 22222222]",
    ]  # fmt: skip
    assert comparison.figure(0, comparison.columns[1]) is None
    assert any("different extractors" in note for note in comparison.notes)


def test_what_keeps_figures_from_being_compared_is_said():
    same = [report(figures=[distance(1.0)]), report(steps=20, figures=[distance(2.0)])]
    assert compare_reports(same).notes == ()
    notes = compare_reports([same[0], report(figures=[distance(2.0, samples=5)], data="e", device="gpu")]).notes
    assert len(notes) == 2
    assert "100 against 1000, 5 against 1000" in notes[0]
    assert "data sets differ" in notes[1]
    with pytest.raises(DataError, match="at least two"):
        compare_reports(same[:1])


def test_names_tell_reports_apart():
    assert compare_reports([report(), report(steps=20), report("other")]).names == (
        "model, 10 steps", "model, 20 steps", "other, 10 steps",
    )  # fmt: skip
    assert compare_reports([report(), report(steps=20)]).names == ("10 steps", "20 steps")
    assert compare_reports([report(), report()]).names == ("model #1", "model #2")


def settings_report(name, solver, steps, speed, value, **more):
    made = report(name, steps, speed, [distance(value), distance(1 / value, metric="recall")])
    return made.model_copy(update={"settings": {"solver": solver, "steps": steps, "guidance_scale": 1.0, **more}})


def test_reports_that_differ_in_solver_and_steps_are_told_by_both():
    one = [settings_report("m", *what, 1.0, 2.0) for what in (("ddim", 50), ("ddim", 20), ("ddpm", 1000))]
    assert compare_reports(one).names == ("ddim 50", "ddim 20", "ddpm 1000")
    guided = settings_report("m", "ddim", 20, 1.0, 2.0, guidance_scale=4.0)
    assert compare_reports([one[1], guided]).names == ("guidance 1.0", "guidance 4.0")
    two = compare_reports([*one, settings_report("other", "ddim", 50, 1.0, 2.0)])
    assert two.names == ("m, ddim 50", "m, ddim 20", "m, ddpm 1000", "other, ddim 50")
    assert two.labels == ("ddim 50", "ddim 20", "ddpm 1000", "ddim 50")
    assert two.models == ("m", "other")


def test_other_machines_and_slots_are_noted_where_speeds_were_measured():
    def on(slots, **machine):
        made = report(figures=[distance(1.0)], speed=2.0)
        return made.model_copy(
            update={"machine": {"device": "cpu", "threads": 2, **machine}, "settings": {"slots": slots}}
        )

    [note] = compare_reports([on(8), on(8, threads=4)]).notes
    assert "machines differ" in note
    assert "threads 2, 4" in note
    assert "devices cpu, gpu" in compare_reports([on(8), on(8, device="gpu")]).notes[0]
    assert "processors" in compare_reports([on(8, processor="a"), on(8, processor="b")]).notes[0]
    [note] = compare_reports([on(8), on(16)]).notes
    assert "slots" in note
    untimed = report(figures=[distance(1.0)], device="gpu")
    assert compare_reports([on(8), untimed, on(8)]).notes == ()


def test_failed_pictures_are_noted():
    whole, broken = settings_report("m", "ddim", 5, 1.0, 2.0), settings_report("m", "ddim", 9, 1.0, 2.0, failed=3)
    assert compare_reports([whole, broken]).notes == ("pictures failed and are left out of: 9 steps",)


def test_models_have_their_colours_and_the_front_crosses_them(tmp_path, monkeypatch):
    reports = [
        settings_report(name, solver, steps, speed * faster, value)
        for name, faster in (("small", 3.0), ("large", 1.0))
        for solver, steps, speed, value in (
            ("ddpm", 1000, 0.1, 3.0 * faster**0.1),
            ("ddim", 20, 4.0, 5.0),
            ("ddim", 5, 9.0, 30.0),
        )
    ]
    comparison = compare_reports(reports)
    column = plotted_column(comparison, "frechet_distance [a]")
    drawn = []
    monkeypatch.setattr(Canvas, "savefig", lambda canvas, path, **_: (drawn.append(canvas), path.write_text("")))
    front = plot(comparison, column, tmp_path / "plot.svg")
    assert front == best_trades(comparison, column) == [
        "large, ddpm 1000", "small, ddpm 1000", "small, ddim 20", "small, ddim 5",
    ]  # fmt: skip
    [axes] = drawn[0].axes
    points = axes.containers
    assert [one.get_label() for one in points] == ["small", "large"]
    assert points[0].lines[0].get_color() != points[1].lines[0].get_color()
    assert sorted(text.get_text() for text in axes.texts) == sorted(["ddpm 1000", "ddim 20", "ddim 5"] * 2)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


@given(
    st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(0, 9).map(float)), min_size=1, max_size=12),
    st.booleans(),
)
def test_the_front_is_what_nothing_beats(points, higher):
    def beats(one, other):
        better = one[1] >= other[1] if higher else one[1] <= other[1]
        return one[0] >= other[0] and better and one != other

    front = pareto(points, higher)
    assert {points[index] for index in front} == {
        point for point in points if not any(beats(other, point) for other in points)
    }
    assert [points[index][0] for index in front] == sorted({points[index][0] for index in front})


def test_the_plot_names_the_front(tmp_path):
    reports = [
        report(steps=steps, speed=speed, figures=[distance(value), distance(0.5, metric="recall")])
        for steps, speed, value in ((50, 1.0, 3.0), (20, 2.0, 4.0), (10, 1.5, 6.0))
    ]
    comparison = compare_reports([*reports, report("folder", figures=[distance(1.0)])])
    front = plot(comparison, plotted_column(comparison), tmp_path / "plot.png")
    assert front == ["model, 50 steps", "model, 20 steps"]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert plotted_column(comparison, "recall")[0] == "recall"
    with pytest.raises(DataError, match=r"'fid'.*frechet_distance, recall"):
        plotted_column(comparison, "fid")
