"""Reports: written, read, and put side by side."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DataError
from headrace.evaluation.comparison import compare_reports, pareto, plotted_column
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
