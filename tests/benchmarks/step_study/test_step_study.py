"""The study on a tiny model, its techniques put in by hand: what is measured, left out, answered and written."""

import csv
import json
from contextlib import contextmanager

import numpy as np
import pytest

from headrace.benchmarks._step_study.families import CHEAPER, PLAIN, QUICK_STEPS, STEPS, Family, families_for
from headrace.benchmarks._step_study.measure import Contestant, Measurement
from headrace.benchmarks._step_study.plots import draw
from headrace.benchmarks._step_study.quality import FRECHET, PSNR, RECALL, Judge, Scores, Truth
from headrace.benchmarks._step_study.report import answer_table, as_json, sentences, table, write
from headrace.benchmarks._step_study.study import ANY, Point, Question, answers, run_study
from headrace.engine import Engine
from headrace.errors import DataError, PlanError
from headrace.evaluation.cost import measure_cost
from headrace.evaluation.extractors.colour_gradients import ColourGradients
from headrace.models.pipelines.loading import load
from headrace.request import Request
from headrace.techniques.guidance.schedule import cut_off
from headrace.tuning.settings import Settings

CUT = Family("guidance cut-off", {"guidance_share": 0.5})
LOW = Family("mixed resolution", {"low_share": 0.5})


@pytest.fixture(scope="module")
def pipeline(tiny_model):
    return load(tiny_model("sd1"))


@contextmanager
def attached(pipeline, settings):
    """Guidance alone; sizes are refused."""
    if settings.low_share > 0:
        raise PlanError("this model cannot shrink", "Use another")
    yield lambda plan: cut_off(plan, settings.guidance_share)


def asked(count):
    return [Request(prompt="red apple", guidance_scale=4.0, seed=seed) for seed in range(count)]


@pytest.fixture(scope="module")
def study(pipeline):
    question = Question("ddim", (4, 2), (CUT, LOW), batch=2)
    return run_study(pipeline, asked(4), question, attached, None)


def test_the_points_are_those_asked_for_and_what_cannot_be_is_said(study):
    assert [(point.family, point.settings.steps) for point in study.points] == [
        ("plain", 2), ("plain", 4), ("guidance cut-off", 2), ("guidance cut-off", 4)
    ]  # fmt: skip
    assert study.notes == ("mixed resolution is left out: this model cannot shrink. Use another",)
    assert all(point.seconds > 0 for point in study.points)


def test_operations_are_those_of_the_rows_that_are_evaluated(study, pipeline):
    request = asked(1)[0].model_copy(update={"solver": "ddim"})
    for point in study.points:
        plan = Engine(pipeline).plan(request.model_copy(update={"steps": point.settings.steps}))
        cost = measure_cost(pipeline, request, plan)
        share = 1.0 if point.family == "plain" else 0.75  # half of the rows have one branch of two
        assert point.macs == cost.macs_a_row * share * 2 * point.settings.steps + cost.macs_decoder


def test_pictures_are_the_engine_s_own(pipeline, tmp_path):
    contestant = Contestant("plain", Settings(solver="ddim", steps=2))
    Measurement(pipeline, asked(3), attached, 2, tmp_path).run([contestant])
    made = contestant.pictures
    assert (contestant.count, len(contestant.files)) == (3, 2)
    expected = Engine(pipeline).generate([one.model_copy(update={"solver": "ddim", "steps": 2}) for one in asked(3)])
    apart = made.astype(int) - np.stack([np.asarray(one.image.convert("RGB")) for one in expected]).astype(int)
    assert np.abs(apart).max() <= 1  # other batch sizes round otherwise


def test_without_real_pictures_the_distance_to_the_most_plain_steps_is_what_is_measured(study):
    assert [measure.name for measure in study.measures] == ["psnr"]
    by_point = {(point.family, point.settings.steps): point.scores.figures["psnr"] for point in study.points}
    assert by_point["plain", 4] > 70 > by_point["plain", 2]
    assert by_point["guidance cut-off", 4] < 70


def test_a_family_that_changes_nothing_is_no_family(pipeline):
    nothing = Family("nothing")
    with pytest.raises(DataError, match=r"none of the cheaper steps.*changes nothing"):
        run_study(pipeline, asked(2), Question("ddim", (2, 3), (nothing,)), attached, None)
    for count, steps in ((1, (2, 3)), (2, (2, 2))):
        with pytest.raises(DataError, match="no curve"):
            run_study(pipeline, asked(count), Question("ddim", steps, (CUT,)), attached, None)


def made_up_points(quality):
    """Five numbers of steps of two families; cheaper steps cost half."""
    points = []
    for place, family in enumerate(("plain", "cheap", "dear")):
        for steps in (5, 10, 20, 40):
            values = np.full(10, quality(family, steps))
            scores = Scores({"recall": float(values[0]), "frechet": 1.0 / steps}, {"recall": values})
            points.append(Point(family, Settings(steps=steps), int(steps * 1e9 / (1 + place)), steps * 1e-3, scores))
    return points


def test_answers_are_given_for_every_measure_cost_and_family():
    found = answers(made_up_points(lambda family, steps: np.log(steps)), (RECALL, FRECHET))
    assert {(one.family, one.measure.name, one.cost) for one in found} == {
        (family, measure, cost)
        for family in ("cheap", "dear", ANY)
        for measure in ("recall", "frechet")
        for cost in ("macs", "seconds")
    }
    by_macs = next(one for one in found if (one.family, one.cost, one.measure) == ("cheap", "macs", RECALL))
    assert (by_macs.duel.low, by_macs.duel.high, by_macs.duel.verdict) == (5e9, 20e9, "cheaper steps")
    assert (by_macs.duel.wins, by_macs.duel.difference.mean()) == pytest.approx((1.0, np.log(2)))
    by_time = next(one for one in found if (one.family, one.cost, one.measure) == ("cheap", "seconds", RECALL))
    assert (by_time.duel.wins, by_time.duel.loses, by_time.duel.verdict) == (0.0, 0.0, "neither")
    lower = next(one for one in found if (one.family, one.cost, one.measure) == ("cheap", "macs", FRECHET))
    assert lower.duel.wins == 1.0  # twice the steps at a cost, so half the distance, which is better


def test_the_judge_knows_real_pictures_from_others():
    generator = np.random.default_rng(0)
    real = generator.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    truth = Truth(real, np.arange(12), ColourGradients())
    judge = Judge(real[:12], truth)
    assert judge.measures == (RECALL, FRECHET, PSNR)
    own, others = judge.scores(real[:12]), judge.scores(real[12:])
    assert (own.figures["recall"], others.figures["recall"]) == (1.0, 0.0)
    assert own.figures["psnr"] > 70 > others.figures["psnr"]
    half = judge.scores(np.concatenate([real[:6], real[12:18]]))
    assert half.figures["recall"] == 0.5
    assert half.replicates["recall"].std() == pytest.approx(np.sqrt(0.25 / 12), rel=0.15)
    assert Judge(real[:12], Truth(real, None, ColourGradients())).measures == (FRECHET, PSNR)


def test_what_is_written_can_be_read_again(study, tmp_path):
    write(study, {"model": "tiny"}, tmp_path)
    with (tmp_path / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["family"], int(row["steps"]), int(row["macs"])) for row in rows] == [
        (point.family, point.settings.steps, point.macs) for point in study.points
    ]
    assert float(rows[0]["psnr_low"]) <= float(rows[0]["psnr"]) <= float(rows[0]["psnr_high"])
    found = json.loads((tmp_path / "steps.json").read_text())
    assert (found["model"], found["notes"]) == ("tiny", list(study.notes))
    assert found == json.loads(json.dumps(as_json(study, {"model": "tiny"})))
    assert {answer["at_equal"] for answer in found["answers"]} <= {"macs", "seconds"}


def test_what_is_shown(study, tmp_path):
    draw(study, "tiny", tmp_path / "steps.png")
    assert (tmp_path / "steps.png").stat().st_size > 5000
    assert table(study, "tiny").row_count == len(study.points)
    assert sentences(study)[-1].startswith("note: mixed resolution")
    points = tuple(made_up_points(lambda family, steps: np.log(steps)))
    whole = type(study)(points, (RECALL,), answers(points, (RECALL,)), ())
    assert answer_table(whole).row_count == len(whole.answers) == 6
    by_macs, by_time = sentences(whole)
    assert by_macs == (
        "At equal operations, the best of the cheaper steps have the higher recall at 1 over 100% of the range "
        "5 GMAC to 20 GMAC, fewer steps over 0%."
    )
    assert by_time.endswith("5 ms to 40 ms, fewer steps over 0%; over 100% the pictures do not tell.")


def test_a_network_without_cross_attention_is_asked_for_the_rest(pipeline, tiny_model):
    whole, rest = (families_for(one, quick=True) for one in (pipeline, load(tiny_model("ddpm"))))
    assert whole == CHEAPER[-1:]
    assert [set(whole[0].changes) - set(one.changes) for one in rest] == [{"cross_share"}]


def test_the_usual_families_are_the_paper_s_constants():
    assert (min(STEPS), max(STEPS)) == (5, 50)
    assert set(QUICK_STEPS) <= set(STEPS)
    everything = CHEAPER[-1].settings("dpm++2m", 20)
    assert (everything.low_share, everything.low_scale, everything.deep_interval) == (0.5, 0.5, 2)
    assert (everything.guidance_share, everything.cross_share) == (0.75, 0.75)
    alone = [family.settings("dpm++2m", 20).canonical for family in CHEAPER[:-1]]
    assert len({one.identity for one in alone}) == len(alone)
    assert not any(one.plain for one in alone)
    assert PLAIN.settings("dpm++2m", 20).plain
