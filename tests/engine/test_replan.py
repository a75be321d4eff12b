import pytest
from fake_pipeline import FakePipeline

from headrace.engine import Engine, Order
from headrace.errors import OrderError, PlanError
from headrace.request import Request
from headrace.techniques.guidance.schedule import skip

ASKED = Request(prompt="apple", steps=5, solver="dpm++2m")


def test_rows_to_come_can_lose_their_unconditional_branch_and_the_picture_says_so():
    pipeline = FakePipeline()
    engine = Engine(pipeline)
    ticket = engine.submit(ASKED)
    plan = engine.plan(ASKED)
    engine.step()
    engine.step()
    engine.replan(ticket, skip(plan, [2, 4]))
    while engine.busy:
        engine.step()
    [result] = engine.collect()
    assert pipeline.calls == [2, 2, 1, 2, 1]
    assert result.plan == skip(plan, [2, 4])
    assert result.settings["unguided_rows"] == [2, 4]
    [same] = Engine(FakePipeline()).generate([ASKED])
    assert (result.pixels != same.pixels).any()
    assert "unguided_rows" not in same.settings
    again = Engine(FakePipeline())
    again.submit(ASKED, skip(plan, [2, 4]))
    while again.busy:
        again.step()
    assert (again.collect()[0].pixels == result.pixels).all()


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_all_guided_or_none_is_not_on_record(scale):
    [result] = Engine(FakePipeline()).generate([ASKED.model_copy(update={"guidance_scale": scale})])
    assert "unguided_rows" not in result.settings


def test_a_waiting_request_can_be_replanned_whole():
    pipeline = FakePipeline()
    engine = Engine(pipeline)
    ticket = engine.submit(ASKED)
    engine.replan(ticket, skip(engine.plan(ASKED), range(5)))
    assert engine.waiting == [ticket]
    while engine.busy:
        engine.step()
    assert pipeline.calls == [1] * 5


def started():
    engine = Engine(FakePipeline())
    ticket = engine.submit(ASKED)
    engine.step(Order(decode=[]))
    engine.step(Order(decode=[]))
    return engine, ticket, engine.plan(ASKED)


def test_rows_that_are_done_cannot_change():
    engine, ticket, plan = started()
    with pytest.raises(PlanError, match=r"guidance before row 2"):
        engine.replan(ticket, skip(plan, [1]))
    assert engine.progress(ticket).plan == plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"solver": "euler"}, "sigma"), ({"solver": "ddim"}, "DDIM"), ({"steps": 6}, "before row 2")],
)
def test_another_solver_or_step_count_is_refused(changes, message):
    engine, ticket, plan = started()
    with pytest.raises(PlanError, match=message):
        engine.replan(ticket, engine.plan(ASKED.model_copy(update=changes)))
    assert engine.progress(ticket).plan == plan


def test_decisions_that_the_model_does_not_carry_out_are_refused():
    engine, ticket, plan = started()
    with pytest.raises(PlanError, match="stage"):
        engine.replan(ticket, plan.with_columns(stage=[0, 0, 1, 1, 1]))


def test_rows_of_another_size_are_refused_under_way():
    engine = Engine(FakePipeline())
    plan = engine.plan(Request(prompt="apple", steps=5, solver="ddim"))
    ticket = engine.submit(Request(prompt="apple", steps=5, solver="ddim"))
    engine.step()
    with pytest.raises(PlanError, match="other sizes"):
        engine.replan(ticket, plan.with_columns(scale=[1, 1, 0.5, 0.5, 1]))


def test_who_has_no_rows_to_come_cannot_be_replanned():
    engine, ticket, plan = started()
    for _ in range(3):
        engine.step(Order(decode=[]))
    for number in (ticket, 99):
        with pytest.raises(OrderError, match=f"request {number} has no rows"):
            engine.replan(number, plan)
