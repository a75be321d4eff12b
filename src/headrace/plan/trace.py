"""`trace`: a diffusers scheduler compiled into a `Plan` by running it on coordinate vectors."""

from __future__ import annotations

import inspect
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from headrace.errors import NotLinearError, SolverError
from headrace.plan.plan import Plan
from headrace.plan.trace_fit import Fit, Register, fit
from headrace.plan.trace_record import Recording, record

MAX_ROWS = 2000
_CACHED_PLANS = 256
_SCHEDULE_ARGUMENTS = ("timesteps", "sigmas")
_ORDINARY_STEP = {"model_output", "timestep", "sample"}
_NOISE_ALGORITHMS = ("dpmsolver", "sde-dpmsolver", "deis", "noise_prediction")  # convert_model_output gives the noise
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
    _check(scheduler, steps, set_timesteps_kwargs)
    options = dict(step_options or {})
    _check_step_options(scheduler, options)
    config = canonical_config(scheduler)
    shift = getattr(scheduler, "shift", None) if hasattr(scheduler, "set_shift") else None
    key = (type(scheduler), config, shift, steps, _canonical(set_timesteps_kwargs), _canonical(options))
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    plan = _compile(scheduler, shift, steps, set_timesteps_kwargs, options, config)
    if any(callable(value) for value in scheduler.config.values()):
        return plan  # a function (SA's tau_func) has no value that a key could hold
    with _cache_lock:
        _cache[key] = plan
        while len(_cache) > _CACHED_PLANS:
            _cache.popitem(last=False)
    return plan


def canonical_config(scheduler: Any) -> str:
    """The scheduler's configuration as JSON with sorted keys, private entries left out."""
    return _canonical({name: value for name, value in dict(scheduler.config).items() if not name.startswith("_")})


def clear_cache() -> None:
    """Forget every traced plan."""
    with _cache_lock:
        _cache.clear()


def _compile(
    scheduler: Any,
    shift: float | None,
    steps: int | None,
    schedule: Mapping[str, Any],
    options: Mapping[str, Any],
    config: str,
) -> Plan:
    solver = type(scheduler).__name__
    try:
        with np.errstate(all="ignore"):
            fresh = type(scheduler).from_config(scheduler.config)
            if shift is not None and shift != fresh.shift:
                fresh.set_shift(shift)
            _set_timesteps(fresh, steps, schedule)
            recording = record(fresh, options)
    except (*_DIFFUSERS_FAILURES, NotImplementedError) as error:
        raise SolverError(
            f"{solver} cannot take {steps} steps with {_describe(schedule, options)}: {_first_line(error)}",
            "Change the number of steps or the solver's options",
        ) from error
    try:
        found = fit(recording, solver)
    except NotLinearError as error:
        raise NotLinearError(f"{error.problem}{_suspects(config)}", error.remedy) from None
    return _plan(recording, found, solver, steps, config)


def _set_timesteps(scheduler: Any, steps: int | None, schedule: Mapping[str, Any]) -> None:
    parameters = inspect.signature(scheduler.set_timesteps).parameters
    arguments = dict(schedule)
    if not any(arguments.get(name) is not None for name in _SCHEDULE_ARGUMENTS):
        arguments["num_inference_steps"] = steps
    if "device" in parameters:
        arguments["device"] = "cpu"
    scheduler.set_timesteps(**arguments)
    if len(scheduler.timesteps) > MAX_ROWS:
        raise ValueError(f"{len(scheduler.timesteps)} rows are more than {MAX_ROWS}")
    if len(scheduler.timesteps) == 0:
        raise ValueError("no timesteps come out")


def _plan(recording: Recording, found: Fit, solver: str, steps: int | None, config: str) -> Plan:
    register = found.register
    return Plan(
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
        init_noise_sigma=recording.init_noise_sigma,
        register=_register_name(register, config),
        solver=solver,
        steps=len(recording.timesteps) if steps is None else steps,
        config=config,
    )


def _register_name(register: Register, config: str) -> str:
    options = json.loads(config)
    of_noise = options.get("algorithm_type") in _NOISE_ALGORITHMS or options.get("predict_x0") is False
    if register.name == "data prediction" or (register.name == "model_outputs" and not of_noise):
        return "data prediction"
    return "noise prediction" if register.p.any() or (register.q != 1).any() else "raw output"


def _check(scheduler: Any, steps: int | None, schedule: Mapping[str, Any]) -> None:
    solver = type(scheduler).__name__
    if not all(hasattr(scheduler, name) for name in ("config", "set_timesteps", "step")):
        raise SolverError(
            f"{solver} has no set_timesteps and step like diffusers' schedulers", "Pass a scheduler object"
        )
    custom = any(schedule.get(name) is not None for name in _SCHEDULE_ARGUMENTS)
    if (steps is None and not custom) or (
        steps is not None and (isinstance(steps, bool) or not isinstance(steps, int))
    ):
        raise SolverError(f"steps is {steps!r}, not a whole number", "Give the number of inference steps, 1 or more")
    if steps is not None and not 1 <= steps <= MAX_ROWS:
        raise SolverError(f"steps is {steps}", f"Give a number of inference steps from 1 to {MAX_ROWS}")
    known = [
        name
        for name in inspect.signature(scheduler.set_timesteps).parameters
        if name not in ("num_inference_steps", "device")
    ]
    for name in schedule:
        if name not in known:
            raise SolverError(
                f"{solver}.set_timesteps takes no {name!r}", f"It takes {', '.join(known) or 'nothing but steps'}"
            )
    _check_configuration(scheduler, solver)


def _check_configuration(scheduler: Any, solver: str) -> None:
    parameters = inspect.signature(scheduler.step).parameters
    needed = [name for name, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if set(needed) != _ORDINARY_STEP:
        raise SolverError(
            f"{solver}.step needs {', '.join(needed)}, where others need a model output, a timestep and a sample",
            "Choose another solver",
        )
    if "LongTensor" in str(parameters["sample"].annotation):
        raise NotLinearError(f"{solver} denoises tokens, not latents", "Choose another solver")
    if hasattr(scheduler, "noise_sampler"):
        raise NotLinearError(
            f"{solver} (noise_sampler) draws from a Brownian tree of its own, not from the request's random stream",
            "Choose dpm++2m-sde, which draws plain noise",
        )
    config = scheduler.config
    if config.get("solver_p") is not None:
        raise SolverError(f"{solver} with solver_p keeps the state of a second solver", "Set solver_p=None")
    if config.get("thresholding"):
        raise NotLinearError(
            f"{solver} with thresholding=True scales by a quantile of the data", "Set thresholding=False"
        )
    if str(config.get("variance_type") or "").startswith("learned"):
        raise NotLinearError(
            f"{solver} with variance_type={config['variance_type']!r} scales its noise by the network's output",
            "Set variance_type to a fixed one (None for the DPM solvers)",
        )


def _check_step_options(scheduler: Any, options: Mapping[str, Any]) -> None:
    known = (
        set(inspect.signature(scheduler.step).parameters)
        - _ORDINARY_STEP
        - {"generator", "return_dict", "prev_timestep"}
    )
    for name in options:
        if name not in known:
            raise SolverError(
                f"{type(scheduler).__name__}.step takes no {name!r}",
                f"It takes {', '.join(sorted(known)) or 'no options'}",
            )


def _suspects(config: str) -> str:
    options = json.loads(config)
    named = [
        f"{name}={options[name]!r}"
        for name in ("algorithm_type", "solver_type", "prediction_type")
        if options.get(name)
    ]
    return f", with {', '.join(named)}" if named else ""


def _describe(schedule: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    given = {**schedule, **options}
    return ", ".join(f"{name}={str(value)[:60]}" for name, value in given.items()) or "its configuration"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=_as_json)


def _as_json(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, torch.dtype | torch.device | type) or callable(value):
        return str(getattr(value, "__qualname__", value))
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise SolverError(f"{type(value).__name__} is not an option that a plan can record", "Use numbers, text and lists")
