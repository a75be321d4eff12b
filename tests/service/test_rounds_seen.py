"""What is told of a round: of whom a row was evaluated, and nobody else."""

from engine.fake_pipeline import FakePipeline
from headrace.engine import Engine, Order
from headrace.request import Request
from headrace.service.worker.rounds_seen import round_seen
from headrace.serving.loop import Loop
from headrace.serving.policies.continuous import Continuous

ASKED = Request(prompt="red apple", steps=3, solver="ddim", guidance_scale=1.0, seed=1)


def snapshot_after(rows):
    engine = Engine(FakePipeline())
    number = engine.submit(ASKED)
    for _ in range(rows):
        engine.step(Order(decode=[]))
    return engine.snapshot(number)


def rounds_of(policy, snapshots):
    """Every round of a loop that goes on from these snapshots, as it is told, tickets being the loop's numbers."""
    told = []

    def watch(state, decided, report):
        told.append(
            round_seen(0, lambda numbers: {number: str(number) for number in numbers}, policy, state, decided, report)
        )

    with Loop(Engine(FakePipeline()), policy, watch=watch) as loop:
        pending = [loop.submit(ASKED, snapshot=snapshot) for snapshot in snapshots]
        assert all(one.result(30).result.error is None for one in pending)
    return told, [str(one.number) for one in pending]


def test_a_row_is_told_of_as_often_as_it_was_evaluated():
    told, (whole, part, over) = rounds_of(Continuous(), [None, snapshot_after(1), snapshot_after(3)])
    rows = [(row.ticket, row.row) for one in told for row in one.rows]
    assert [row for ticket, row in rows if ticket == whole] == [1, 2, 3]
    assert [row for ticket, row in rows if ticket == part] == [2, 3]
    assert [row for ticket, row in rows if ticket == over] == []  # only its decoding was left
    assert all(one.network_rows == len(one.rows) for one in told)
    assert any(chunk.ticket == over for one in told for chunk in one.chunks)
