"""The algebra of plans: validation, with_columns, files, equality."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headrace.errors import OutputError, PlanError
from headrace.plan import COLUMNS, Plan, key_columns
from headrace.plan.column import SOLVER, column

finite = st.floats(-1e6, 1e6, allow_nan=False, width=64)
DECISIONS = sorted(name for name, spec in COLUMNS.items() if spec.owner != SOLVER)


def plain(rows: int = 4, history: int = 2) -> Plan:
    return Plan(timestep=np.arange(rows)[::-1] * 10, a=np.ones(rows), b=np.full((rows, history), 0.5))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    rows, history = draw(st.integers(1, 12)), draw(st.integers(1, 5))

    def floats(*shape: int) -> np.ndarray:
        return draw(arrays.arrays(np.float64, shape, elements=finite))

    bounds = np.sort(
        draw(arrays.arrays(np.float64, (rows, 2), elements=st.one_of(finite, st.sampled_from([-np.inf, np.inf])))),
        axis=1,
    )
    plan = Plan(
        timestep=floats(rows),
        a=floats(rows),
        b=floats(rows, history),
        p=floats(rows),
        q=floats(rows),
        c=floats(rows),
        noise=floats(rows),
        draws=draw(arrays.arrays(np.int64, rows, elements=st.integers(1, 3))),
        clip=bounds,
        init_noise_sigma=draw(st.floats(1e-3, 1e3)),
        solver=draw(st.text(max_size=20)),
        steps=draw(st.integers(0, 100)),
    )
    return plan.with_columns(**{name: draw(decision(name, rows)) for name in draw(st.sets(st.sampled_from(DECISIONS)))})


def decision(name: str, rows: int) -> st.SearchStrategy[np.ndarray]:
    if name == "compute":
        blocks = st.integers(0, 6).flatmap(lambda b: arrays.arrays(np.bool_, (rows, b)))
        return blocks.map(lambda mask: np.concatenate([np.ones_like(mask[:1]), mask[1:]]))
    spec = COLUMNS[name]
    if spec.kind == "int":
        return arrays.arrays(np.int64, rows, elements=st.integers(int(spec.low), int(min(spec.high, 8))))
    return arrays.arrays(np.float64, rows, elements=st.floats(spec.low, min(spec.high, 20.0)))


def test_defaults_mean_plain_sampling() -> None:
    plan = plain(3)
    assert plan.guidance.tolist() == [1, 1, 1]
    assert plan.compute.shape == (3, 0)
    assert plan.scale.tolist() == [1, 1, 1]
    assert plan.fusion.tolist() == [1, 1, 1]
    assert plan.stage.tolist() == [0, 0, 0]
    assert plan.clip.tolist() == [[-np.inf, np.inf]] * 3
    assert (len(plan), plan.history, plan.blocks, plan.network_rows) == (3, 2, 0, 3)


@given(plans())
@settings(deadline=None, max_examples=40)
def test_saved_plans_load_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    file = tmp_path_factory.mktemp("plans") / "nested" / "a.parquet"
    plan.save(file)
    loaded = Plan.load(file)
    assert loaded == plan
    assert hash(loaded) == hash(plan)
    assert loaded.differences(plan) == ()
    assert [path.name for path in file.parent.iterdir()] == ["a.parquet"]


@given(plans(), st.data())
@settings(deadline=None, max_examples=40)
def test_columns_set_twice_or_in_any_order_are_the_same(plan: Plan, data: st.DataObject) -> None:
    first, second = data.draw(st.permutations(DECISIONS))[:2]
    one, two = data.draw(decision(first, len(plan))), data.draw(decision(second, len(plan)))
    once = plan.with_columns(**{first: one})
    assert once.with_columns(**{first: one}) == once
    assert set(once.differences(plan)) <= {first}
    other_way = plan.with_columns(**{second: two}).with_columns(**{first: one})
    assert once.with_columns(**{second: two}) == other_way == plan.with_columns(**{first: one, second: two})


@given(plans())
@settings(deadline=None, max_examples=20)
def test_every_array_is_read_only_and_of_its_type(plan: Plan) -> None:
    for name, spec in COLUMNS.items():
        values = getattr(plan, name)
        assert values.dtype == spec.dtype
        assert not values.flags.writeable
        assert len(values) == len(plan)
    with pytest.raises(AttributeError):
        plan.a = plan.b  # type: ignore[misc]


def test_a_plan_does_not_share_memory_with_what_it_was_made_of() -> None:
    source = np.ones(4)
    plan = plain().with_columns(guidance=source)
    source[:] = 7
    assert plan.guidance.tolist() == [1, 1, 1, 1]


def test_scalars_are_broadcast_and_guided_rows_count_twice() -> None:
    plan = plain().with_columns(guidance=7.5)
    assert plan.guidance.tolist() == [7.5] * 4
    assert plan.network_rows == 8
    assert plan.with_columns(guidance=[7.5, 7.5, 1, 1]).network_rows == 6
    assert plan.with_columns(guidance=0).network_rows == 8  # unconditional only still needs a decision by the engine


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"guidance": [1, 2, float("nan"), 1]}, ["guidance", "row 2", "nan"]),
        ({"guidance": -1}, ["guidance", "row 0", "-1"]),
        ({"guidance": float("inf")}, ["guidance", "inf"]),
        ({"guidance": "seven"}, ["guidance", "seven"]),
        ({"guidance": [1, 2]}, ["guidance", "(2,)", "(4,)"]),
        ({"fusion": 0}, ["fusion", "row 0", "0"]),
        ({"fusion": 1.5}, ["fusion", "1.5"]),
        ({"stage": -1}, ["stage", "-1"]),
        ({"scale": 0}, ["scale", "0"]),
        ({"compute": np.ones(4)}, ["compute", "True or False"]),
        ({"compute": [[True, False]] * 4}, ["compute", "row 0"]),
        ({"compute": [[True], [True, True], [True], [True]]}, ["compute"]),
        ({"compute": np.ones((4, 2, 2), bool)}, ["compute", "(4, 2, 2)"]),
        ({"p": 1}, ["p", "solver"]),
        ({"speed": 1}, ["speed", "guidance"]),
    ],
)
def test_wrong_decisions_name_column_row_and_value(columns: dict[str, object], words: list[str]) -> None:
    with pytest.raises(PlanError) as raised:
        plain().with_columns(**columns)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        {"timestep": []},
        {"timestep": [[1.0]]},
        {"a": [1, 2, 3]},
        {"b": np.ones((4, 0))},
        {"b": np.full((4, 1), np.nan)},
        {"clip": [1.0, -1.0]},
        {"clip": [np.nan, 1.0]},
        {"noise": 1.0},
        {"draws": -1},
        {"init_noise_sigma": 0.0},
        {"init_noise_sigma": float("nan")},
        {"steps": -1},
        {"solver": 3},
    ],
)
def test_wrong_tables_are_refused(change: dict[str, object]) -> None:
    values = {"timestep": np.arange(4.0), "a": np.ones(4), "b": np.ones((4, 1)), **change}
    with pytest.raises(PlanError):
        Plan(**values)  # type: ignore[arg-type]


def test_unequal_plans_differ_in_digest() -> None:
    plan = plain()
    assert plan != plan.with_columns(guidance=2)
    assert plan.digest != plan.with_columns(stage=1).digest
    assert plan != "a plan"
    assert Plan(timestep=[0.0], a=[-0.0], b=[[1.0]]) == Plan(timestep=[0.0], a=[0.0], b=[[1.0]])  # type: ignore[arg-type]


def test_damaged_files_are_refused(tmp_path) -> None:
    file = tmp_path / "plan.parquet"
    with pytest.raises(PlanError, match="no plan file"):
        Plan.load(file)
    plain().save(file)
    content = file.read_bytes()
    for damaged in (b"", b"not parquet", content[: len(content) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(PlanError, match=r"plan\.parquet"):
            Plan.load(file)


def test_foreign_and_changed_parquet_files_are_refused(tmp_path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "plan.parquet"
    pq.write_table(pa.table({"x": [1]}), file)
    with pytest.raises(PlanError, match="not a plan"):
        Plan.load(file)
    plain().save(file)
    table = pq.read_table(file)
    position = table.schema.get_field_index("guidance")
    pq.write_table(table.set_column(position, "guidance", pa.array([2.0] * 4)), file)
    with pytest.raises(PlanError, match="changed"):
        Plan.load(file)


def test_a_plan_that_cannot_be_written_says_so(tmp_path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        plain().save(taken / "plan.parquet")


def test_repr_shows_every_row_of_a_short_plan_and_the_ends_of_a_long_one() -> None:
    short = repr(plain(3).with_columns(guidance=[3, 3, 1]))
    assert len(short.splitlines()) == 5
    assert "guidance" in short
    assert "stage" not in short
    long = repr(plain(100))
    assert "..." in long
    assert "99" in long.splitlines()[-1]
    assert len(long.splitlines()) < 20


def test_rows_of_the_table_hold_python_values() -> None:
    row = plain(2).with_columns(compute=np.ones((2, 3), bool)).to_table()[1]
    assert list(row) == list(COLUMNS)
    assert row["compute"] == [True, True, True]
    assert row["b"] == [0.5, 0.5]
    assert isinstance(row["fusion"], int)


def test_key_columns_are_those_that_rows_must_agree_on() -> None:
    assert key_columns() == ("scale", "fusion")
    assert column("compute").owner == "block cache"
    with pytest.raises(PlanError, match="no column"):
        column("colour")


def test_importing_plans_does_not_import_torch() -> None:
    heavy = ("torch", "diffusers", "pyarrow")
    code = f"import sys, headrace.plan, headrace.plan.reference; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(plans())
def test_kept_values_are_those_that_the_next_row_reuses(plan: Plan) -> None:
    assert plan.keep.shape == plan.compute.shape
    for row in range(len(plan)):
        for block in range(plan.blocks):
            reused = row + 1 < len(plan) and not plan.compute[row + 1, block]
            assert plan.keep[row, block] == (plan.compute[row, block] and reused)


def test_rows_after_guidance_was_dropped_may_reuse() -> None:
    plan = plain(4).with_columns(guidance=[3, 3, 1, 3], compute=[[True], [False], [False], [False]])
    plan.check_reuse()
    assert plan.keep[:, 0].tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"compute": [[True, True], [True, False], [True, True], [True, True]], "guidance": [1, 2, 2, 2]},
            ["compute", "row 1", "block 1", "row 0", "guidance was 1 and not 2", "guidance comes on"],
        ),
        (
            {"compute": [[True, True], [True, True], [True, True], [False, True]], "scale": [1, 1, 0.5, 1]},
            ["compute", "row 3", "block 0", "row 2", "scale was 0.5 and not 1", "scale changes"],
        ),
    ],
)
def test_reuse_of_values_that_a_row_cannot_use_is_told(columns: dict[str, object], told: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        plain(4).with_columns(**columns).check_reuse()
    for part in told:
        assert part in str(caught.value)
