"""`trace`: a diffusers scheduler compiled into a `Plan` by running it on coordinate vectors.

`restarted`: the same plan whose solver begins anew, with empty history, at a later row.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.errors import NotLinearError, PlanError, SolverError
from headrace.plan.path import same_path, true_levels
from headrace.plan.plan import Plan
from headrace.plan.trace_check import check, check_step_options
from headrace.plan.trace_fit import Fit, Register, fit
from headrace.plan.trace_level import data_prediction, levels
from headrace.plan.trace_record import Recording, record
from headrace.plan.trace_solver import TracedSolver, canonical_config, solver_of

_CACHED_PLANS = 256
_NOISE_ALGORITHMS = ("dpmsolver", "sde-dpmsolver", "deis", "noise_prediction")  # convert_model_output gives the noise
_RETRACED = (
    "timestep",
    "input_scale",
    "p",
    "q",
    "a",
    "c",
    "noise",
    "draws",
    "clip",
    "data_p",
    "data_q",
    "signal",
    "sigma",
)
_DIFFUSERS_FAILURES = (
    ValueError,
    TypeError,
    RuntimeError,
    IndexError,
    KeyError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    ImportError,
)

_cache: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
_cache_lock = threading.Lock()


def trace(
    scheduler: Any, steps: int | None, *, step_options: Mapping[str, Any] | None = None, **set_timesteps_kwargs: Any
) -> Plan:
    """The plan of `scheduler` for `steps` inference steps.

    `scheduler` is any diffusers scheduler; only its configuration is read (and the shift of a flow-matching one), and
    it is left as it was. `set_timesteps_kwargs` go to its `set_timesteps` (`mu`, `timesteps`, `sigmas`, ...; with one
    of the last two `steps` may be None), `step_options` to each `step` (`eta`, `s_churn`, `order`, ...). Rows may
    outnumber steps. Plans are cached by configuration, so a second call costs microseconds.

    Raises `SolverError` for steps or options that the scheduler cannot take, `NotLinearError` for a scheduler whose
    step is not linear in the sample, its outputs and the noise of its row.
    """
    check(scheduler, steps, set_timesteps_kwargs)
    options = dict(step_options or {})
    check_step_options(scheduler, options)
    shift = getattr(scheduler, "shift", None) if hasattr(scheduler, "set_shift") else None
    return _traced(TracedSolver(scheduler, shift, steps, set_timesteps_kwargs, options))


def restarted(plan: Plan, row: int) -> Plan:
    """`plan` with its solver begun anew at `row`: no later row reads a register of an earlier one.

    Rows from `row` on are those of the solver when it starts there with empty history, as image-to-image pipelines
    start it (`set_begin_index`); rows before and all decision columns are kept. Restart rows in ascending order.

    Raises `PlanError` for a row that the plan has not, `SolverError` for a plan that no diffusers scheduler was traced
    for and where the solver cannot begin at this row: in the second evaluation of a step of Heun's kind, and anywhere
    but at the first row for PNDM, whose warm-up evaluates a timestep twice.
    """
    if not 0 <= row < len(plan):
        raise PlanError(
            f"row {row} is not in a plan of {len(plan)} rows", f"Restart at a row from 0 to {len(plan) - 1}"
        )
    solver = solver_of(plan)
    remedy = "Begin one row later, where the solver evaluates a step in parts, or use dpm++2m, unipc, euler or ddim"
    try:
        whole = _joined(plan, _traced(solver, row), row)
    except SolverError as error:
        raise SolverError(
            f"{plan.solver} cannot begin anew at row {row} of {len(plan)}: {error.problem}", remedy
        ) from None
    if not same_path(plan, whole, row):
        raise SolverError(
            f"{plan.solver} cannot begin anew at row {row} of {len(plan)}: it would step from another noise level",
            remedy,
        )
    return whole


def _joined(plan: Plan, tail: Plan, row: int) -> Plan:
    """The plan's rows before `row`, then those of `tail`; histories are brought to one width."""
    history = max(plan.history, tail.history)

    def wide(b: np.ndarray) -> np.ndarray:
        return np.pad(b, ((0, 0), (0, history - b.shape[1])))

    columns: dict[str, Any] = {
        name: np.concatenate([getattr(plan, name)[:row], getattr(tail, name)]) for name in _RETRACED
    }
    columns["b"] = np.concatenate([wide(plan.b)[:row], wide(tail.b)])
    same = row == 0 or plan.register == tail.register
    return replace(plan, **columns, register=tail.register if same else "mixed")


def _traced(solver: TracedSolver, begin: int = 0) -> Plan:
    """The plan's rows from `begin` on, cached by configuration."""
    config = canonical_config(solver.scheduler)
    key = (type(solver.scheduler), config, solver.steps, solver.arguments, begin)
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    plan = _compile(solver, config, begin)
    if not solver.cacheable:
        return plan
    with _cache_lock:
        _cache[key] = plan
        while len(_cache) > _CACHED_PLANS:
            _cache.popitem(last=False)
    return plan


def clear_cache() -> None:
    """Forget every traced plan."""
    with _cache_lock:
        _cache.clear()


def _compile(solver: TracedSolver, config: str, begin: int) -> Plan:
    try:
        with np.errstate(all="ignore"):
            fresh = solver.fresh()
            level = levels(fresh, begin)
            recording = record(fresh, solver.options, begin)
    except (*_DIFFUSERS_FAILURES, NotImplementedError) as error:
        raise SolverError(
            f"{solver.name} cannot take {solver.steps} steps with {_describe(solver)}: {_first_line(error)}",
            "Change the number of steps or the solver's options",
        ) from error
    try:
        found = fit(recording, solver.name)
    except NotLinearError as error:
        raise NotLinearError(f"{error.problem}{_suspects(config)}", error.remedy) from None
    return _plan(recording, found, level, solver, config)


def _plan(recording: Recording, found: Fit, level: np.ndarray, solver: TracedSolver, config: str) -> Plan:
    register = found.register
    name = _register_name(register, config)
    data_p, data_q = data_prediction(recording, register, name, level, config)
    plan = Plan(
        timestep=recording.timesteps,
        input_scale=recording.input_scale,
        p=register.p,
        q=register.q,
        a=found.a,
        b=found.b,
        c=found.c,
        noise=found.noise,
        draws=found.draws,
        clip=register.clip,
        data_p=data_p,
        data_q=data_q,
        signal=level[:, 0],
        sigma=level[:, 1],
        init_noise_sigma=recording.init_noise_sigma,
        register=name,
        solver=solver.name,
        steps=len(recording.timesteps) if solver.steps is None else solver.steps,
        config=config,
        arguments=solver.arguments,
    )
    return true_levels(plan)


def _register_name(register: Register, config: str) -> str:
    options = json.loads(config)
    of_noise = options.get("algorithm_type") in _NOISE_ALGORITHMS or options.get("predict_x0") is False
    if register.name == "data prediction" or (register.name == "model_outputs" and not of_noise):
        return "data prediction"
    return "noise prediction" if register.p.any() or (register.q != 1).any() else "raw output"


def _suspects(config: str) -> str:
    options = json.loads(config)
    named = [
        f"{name}={options[name]!r}"
        for name in ("algorithm_type", "solver_type", "prediction_type")
        if options.get(name)
    ]
    return f", with {', '.join(named)}" if named else ""


def _describe(solver: TracedSolver) -> str:
    given = {**solver.schedule, **solver.options}
    return ", ".join(f"{name}={str(value)[:60]}" for name, value in given.items()) or "its configuration"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
