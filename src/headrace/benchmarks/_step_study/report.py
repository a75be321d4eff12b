"""What the study says: tables and sentences for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from headrace.benchmarks._step_study.quality import Measure
from headrace.benchmarks._step_study.study import ANY, Answer, CostName, Point, Study
from headrace.files import write_file, write_json

_EQUAL: dict[CostName, str] = {"macs": "operations", "seconds": "latency"}
_ENDS = (2.5, 97.5)  # percentiles


def table(study: Study, title: str) -> Table:
    """A line a point."""
    shown = Table("", "steps", "GMAC", "ms a picture", *(measure.name for measure in study.measures), title=title)
    for point in study.points:
        figures = [f"{point.scores.figures[measure.name]:.3f}" for measure in study.measures]
        shown.add_row(
            point.family, str(point.settings.steps), f"{point.macs / 1e9:.2f}", f"{1e3 * point.seconds:.1f}", *figures,
            end_section=point is _last_of_family(study, point),
        )  # fmt: skip
    return shown


def answer_table(study: Study) -> Table:
    """A line an answer: the range of costs that both reach, and over which share of it which of the two is better."""
    shown = Table("at equal", "measure", "against fewer steps", "range", "cheaper win", "fewer win", "neither")
    for answer in study.answers:
        found = answer.duel
        shown.add_row(
            _EQUAL[answer.cost], answer.measure.name, answer.family, _range(answer), f"{found.wins:.0%}",
            f"{found.loses:.0%}", f"{found.undecided:.0%}",
            end_section=answer is [one for one in study.answers if _asked(one) == _asked(answer)][-1],
        )  # fmt: skip
    return shown


def sentences(study: Study) -> list[str]:
    """In words: for every measure, the best of the cheaper steps against fewer ones; then what was left out."""
    last = {_asked(answer): answer for answer in study.answers}
    return [sentence(answer) for answer in last.values()] + [f"note: {note}" for note in study.notes]


def sentence(answer: Answer) -> str:
    """One answer in words."""
    found, measure = answer.duel, answer.measure
    who = "the best of the cheaper steps" if answer.family == ANY else f"cheaper steps ({answer.family})"
    text = (
        f"At equal {_EQUAL[answer.cost]}, {who} have the {'higher' if measure.higher else 'lower'} {measure.label} "
        f"over {found.wins:.0%} of the range {_range(answer)}, fewer steps over {found.loses:.0%}"
    )
    return f"{text}; over {found.undecided:.0%} the pictures do not tell." if found.undecided > 0 else f"{text}."


def _asked(answer: Answer) -> tuple[str, CostName]:
    return answer.measure.name, answer.cost


def _range(answer: Answer) -> str:
    low, high = (_amount(answer.cost, end) for end in (answer.duel.low, answer.duel.high))
    return f"{low} to {high}"


def as_json(study: Study, about: Mapping[str, Any]) -> dict[str, Any]:
    """`about` (model, machine, ...), the points, the answers and the notes as JSON values."""
    return {
        **about,
        "points": [_row(point, study.measures) for point in study.points],
        "answers": [
            {
                "family": answer.family, "measure": answer.measure.name, "at_equal": answer.cost,
                "low": answer.duel.low, "high": answer.duel.high, "wins": round(answer.duel.wins, 4),
                "loses": round(answer.duel.loses, 4), "ahead": round(answer.duel.ahead, 4),
                "mean_difference": float(answer.duel.difference.mean()), "verdict": answer.duel.verdict,
            }
            for answer in study.answers
        ],
        "notes": list(study.notes),
    }  # fmt: skip


def write(study: Study, about: Mapping[str, Any], out: Path) -> None:
    """`steps.csv`, a line a point, and `steps.json`. Raises `OutputError`."""
    rows = [_row(point, study.measures) for point in study.points]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_file(out / "steps.csv", lambda path: path.write_text(text.getvalue(), encoding="utf-8"))
    write_json(out / "steps.json", as_json(study, about))


def _row(point: Point, measures: tuple[Measure, ...]) -> dict[str, Any]:
    """A point with its figures and the ends of their 95% intervals, None where there are none."""
    row: dict[str, Any] = {"family": point.family, **point.settings.model_dump(mode="json")}
    row |= {"macs": point.macs, "seconds": point.seconds}
    for measure in measures:
        values = point.scores.replicates.get(measure.name)
        low, high = (None, None) if values is None else map(float, np.percentile(values, _ENDS))
        row |= {measure.name: point.scores.figures[measure.name]}
        row |= {f"{measure.name}_low": low, f"{measure.name}_high": high}
    return row


def _last_of_family(study: Study, point: Point) -> Point:
    return [one for one in study.points if one.family == point.family][-1]


def _amount(cost: CostName, value: float) -> str:
    if cost == "seconds":
        return f"{1e3 * value:.3g} ms"
    return f"{value / 1e12:.3g} TMAC" if value >= 1e12 else f"{value / 1e9:.3g} GMAC"
