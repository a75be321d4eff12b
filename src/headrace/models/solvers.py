"""Short solver names: which diffusers scheduler each one means, built from a model's own configuration."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace.errors import SolverError

Family = Literal["variance preserving", "flow matching", "EDM", "consistency"]

_WHY = {
    "variance preserving": "is trained on noised samples alpha*x0 + sigma*noise at discrete timesteps",
    "flow matching": "predicts the velocity of a straight path between noise and data",
    "EDM": "expects inputs and outputs preconditioned by sigma_data",
    "consistency": "maps any noise level to the data in one evaluation",
}


@dataclass(frozen=True)
class SolverSpec:
    """A short name: the diffusers class, the options set on top of the model's configuration, and one line about it."""

    name: str
    scheduler: str
    summary: str
    options: Mapping[str, Any] = field(default_factory=dict)
    family: Family = "variance preserving"


_KARRAS = {"use_karras_sigmas": True, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_EXPONENTIAL = {"use_karras_sigmas": False, "use_exponential_sigmas": True, "use_beta_sigmas": False}
_BETA = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": True}
_PLUS = {"algorithm_type": "dpmsolver++", "solver_order": 2}
_SDE = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
_MULTI, _SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"

_SPECS = (
    SolverSpec("ddim", "DDIMScheduler", "DDIM, deterministic (arXiv 2010.02502)"),
    SolverSpec("ddpm", "DDPMScheduler", "ancestral sampling of DDPM (arXiv 2006.11239)"),
    SolverSpec("dpm++2m", _MULTI, "DPM-Solver++ 2M (arXiv 2211.01095)", _PLUS),
    SolverSpec("dpm++2m-karras", _MULTI, "DPM-Solver++ 2M on Karras noise levels", _PLUS | _KARRAS),
    SolverSpec("dpm++2m-beta", _MULTI, "DPM-Solver++ 2M on beta-distributed noise levels", _PLUS | _BETA),
    SolverSpec("dpm++2m-sde", _MULTI, "stochastic DPM-Solver++ 2M", _SDE),
    SolverSpec("dpm++2m-sde-karras", _MULTI, "stochastic DPM-Solver++ 2M on Karras noise levels", _SDE | _KARRAS),
    SolverSpec("dpm++3m", _MULTI, "DPM-Solver++ 3M", _PLUS | {"solver_order": 3}),
    SolverSpec("dpm++2s", _SINGLE, "DPM-Solver++ 2S, single-step", _PLUS),
    SolverSpec("dpm++3s", _SINGLE, "DPM-Solver++ 3S, single-step", _PLUS | {"solver_order": 3}),
    SolverSpec("euler", "EulerDiscreteScheduler", "Euler's method on noise levels (arXiv 2206.00364, algorithm 2)"),
    SolverSpec("euler-karras", "EulerDiscreteScheduler", "Euler's method on Karras noise levels", _KARRAS),
    SolverSpec(
        "euler-exponential", "EulerDiscreteScheduler", "Euler's method on exponential noise levels", _EXPONENTIAL
    ),
    SolverSpec("euler-a", "EulerAncestralDiscreteScheduler", "ancestral Euler: fresh noise every row"),
    SolverSpec("heun", "HeunDiscreteScheduler", "Heun's method, 2N-1 evaluations for N steps"),
    SolverSpec("heun-karras", "HeunDiscreteScheduler", "Heun's method on Karras noise levels", _KARRAS),
    SolverSpec("unipc", "UniPCMultistepScheduler", "UniPC, predictor and corrector (arXiv 2302.04867)"),
    SolverSpec("unipc-karras", "UniPCMultistepScheduler", "UniPC on Karras noise levels", _KARRAS),
    SolverSpec("lms", "LMSDiscreteScheduler", "linear multistep of order 4"),
    SolverSpec("lms-karras", "LMSDiscreteScheduler", "linear multistep of order 4 on Karras noise levels", _KARRAS),
    SolverSpec("kdpm2", "KDPM2DiscreteScheduler", "DPM-Solver-2 as in k-diffusion, two evaluations a step"),
    SolverSpec("kdpm2-a", "KDPM2AncestralDiscreteScheduler", "ancestral DPM-Solver-2 as in k-diffusion"),
    SolverSpec("deis", "DEISMultistepScheduler", "exponential integrator (arXiv 2204.13902)"),
    SolverSpec("sa", "SASolverScheduler", "stochastic Adams, predictor and corrector (arXiv 2309.05019)"),
    SolverSpec("pndm", "PNDMScheduler", "pseudo linear multistep (arXiv 2202.09778)", {"skip_prk_steps": True}),
    SolverSpec("lcm", "LCMScheduler", "latent consistency, for models distilled for it (arXiv 2310.04378)"),
    SolverSpec("tcd", "TCDScheduler", "trajectory consistency, for models distilled for it (arXiv 2402.19159)"),
    SolverSpec("edm-euler", "EDMEulerScheduler", "Euler's method for EDM models", family="EDM"),
    SolverSpec("edm-dpm++2m", "EDMDPMSolverMultistepScheduler", "DPM-Solver++ 2M for EDM models", family="EDM"),
    SolverSpec("flow-euler", "FlowMatchEulerDiscreteScheduler", "Euler's method on a flow", family="flow matching"),
    SolverSpec("flow-heun", "FlowMatchHeunDiscreteScheduler", "Heun's method on a flow", family="flow matching"),
    SolverSpec("flow-lcm", "FlowMatchLCMScheduler", "latent consistency on a flow", family="flow matching"),
    SolverSpec("flow-dpm++2m", _MULTI, "DPM-Solver++ 2M on a flow", _PLUS | _FLOW, "flow matching"),
    SolverSpec("flow-unipc", "UniPCMultistepScheduler", "UniPC on a flow", _FLOW, "flow matching"),
    SolverSpec(
        "consistency", "CMStochasticIterativeScheduler", "consistency models (arXiv 2303.01469)", family="consistency"
    ),
)
SOLVERS: dict[str, SolverSpec] = {spec.name: spec for spec in _SPECS}
_ALIASES = {
    "dpm++": "dpm++2m",
    "dpmsolver++": "dpm++2m",
    "dpm-solver++": "dpm++2m",
    "euler-ancestral": "euler-a",
    "dpm2": "kdpm2",
    "dpm2-a": "kdpm2-a",
    "plms": "pndm",
    "sa-solver": "sa",
}


def names() -> tuple[str, ...]:
    """Every short name, in the order of the documentation."""
    return tuple(SOLVERS)


def resolve(name: str) -> SolverSpec:
    """What a name means: a short name, an alias, or the name of a diffusers scheduler class, upper or lower case.

    Raises `SolverError` with the nearest names for anything else.
    """
    plain = _plain(name)
    for known in (*SOLVERS, *_ALIASES):
        if plain == _plain(known):
            return SOLVERS[_ALIASES.get(known, known)]
    for class_name in _scheduler_classes():
        if plain in (class_name.lower(), class_name.lower().removesuffix("scheduler")):
            return SolverSpec(class_name, class_name, f"diffusers' {class_name}", family=_family(class_name, {}))
    near = difflib.get_close_matches(name.strip().lower(), [*SOLVERS, *_ALIASES], n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise SolverError(
        f"there is no solver {name!r}", f"{hint}Known: {', '.join(SOLVERS)}, or a diffusers scheduler class"
    )


def _plain(name: str) -> str:
    """A name without case and separators, so that `DPM++ 2M` is `dpm++2m` and `euler_a` is `euler-a`."""
    return "".join(letter for letter in name.lower() if letter not in " -_")


def build(name: str, base: Any = None) -> Any:
    """A diffusers scheduler for `name` that keeps the betas, prediction type, spacing, ... of the model's own.

    `base` is the model's scheduler or its configuration (`scheduler.config`, or scheduler_config.json as a mapping);
    None takes the class's defaults. Raises `SolverError` for an unknown name, for a solver of another family
    than the model was trained for, and for options that the class refuses.
    """
    spec = resolve(name)
    config = _configuration(base)
    if base is not None:
        _check_family(spec, config)
    scheduler_class = _scheduler_class(spec.scheduler)
    known = set(inspect.signature(scheduler_class.__init__).parameters)
    kept = {
        key: value for key, value in config.items() if key in known or key in ("_class_name", "_use_default_values")
    }
    options = {key: value for key, value in spec.options.items() if key in known}
    if spec.family == "flow matching" and "flow_shift" in known and config.get("shift") is not None:
        options["flow_shift"] = config["shift"]
    if "_use_default_values" in kept:  # an option set here is no default any more
        kept["_use_default_values"] = [key for key in kept["_use_default_values"] if key not in options]
    try:
        return scheduler_class.from_config({**kept, **options})
    except (ValueError, TypeError, ImportError, NotImplementedError, AttributeError) as error:
        raise SolverError(
            f"{spec.scheduler} cannot be built from this configuration: {str(error).strip().splitlines()[0][:200]}",
            f"Choose another solver: {_some_of(spec.family)}",
        ) from error


def _configuration(base: Any) -> dict[str, Any]:
    if base is None or isinstance(base, Mapping):
        return dict(base or {})
    return {"_class_name": type(base).__name__, **base.config}


def _check_family(spec: SolverSpec, base: Mapping[str, Any]) -> None:
    trained = _family(str(base.get("_class_name", "")), base)
    if trained != spec.family:
        raise SolverError(
            f"solver {spec.name} is for {spec.family} models, but this model {_WHY[trained]} ({trained})",
            f"Its solvers: {_some_of(trained)}",
        )


def _some_of(family: Family) -> str:
    fitting = [name for name, spec in SOLVERS.items() if spec.family == family]
    return ", ".join(fitting[:8]) + (", ..." if len(fitting) > 8 else "")


def _family(class_name: str, config: Mapping[str, Any]) -> Family:
    """What kind of model a scheduler belongs to. Configurations of objects made in memory do not name their class."""
    if "Flow" in class_name or config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return "flow matching"
    if class_name.startswith("CM") or "clip_denoised" in config:
        return "consistency"
    if class_name.startswith("EDM") or "sigma_data" in config:
        return "EDM"
    return "flow matching" if "shift" in config else "variance preserving"


def _scheduler_classes() -> tuple[str, ...]:
    import diffusers.schedulers

    return tuple(name for name in dir(diffusers.schedulers) if name.endswith("Scheduler"))


def _scheduler_class(class_name: str) -> Any:
    import diffusers

    return getattr(diffusers, class_name)
