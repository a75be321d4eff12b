"""The schedulers of diffusers with the options that change their arithmetic, as a table of cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers.schedulers


@dataclass(frozen=True)
class SolverCase:
    """One configuration. `solver` names the algorithm (what is counted), `variant` the options beside it.

    `options` go to the scheduler's constructor, `schedule` to `set_timesteps`, `step_options` to each `step`.
    """

    solver: str
    scheduler: str
    variant: str = "defaults"
    options: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    step_options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """A fresh scheduler of this configuration."""
        return getattr(diffusers.schedulers, self.scheduler)(**self.options)


_SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_V = {"prediction_type": "v_prediction"}
_X0 = {"prediction_type": "sample"}
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
_ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **_V}
_KARRAS, _EXPONENTIAL, _BETA = ({f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta"))
_NOISY = {"algorithm_type": "sde-dpmsolver++"}

# solver: (scheduler, options that define the algorithm, {variant: further options})
_TABLE: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
    "DDIM": (
        "DDIMScheduler",
        _SD,
        {
            "clip_sample": {},
            "unclipped, leading, offset 1": {"clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False},
            "v, zero SNR, trailing": {"clip_sample": False, **_ZERO_SNR},
            "sample prediction, linspace": {"clip_sample": False, "timestep_spacing": "linspace", **_X0},
        },
    ),
    "DDIM inverse": ("DDIMInverseScheduler", {"clip_sample": False}, {"defaults": {}}),
    "DDIM parallel": ("DDIMParallelScheduler", {}, {"clip_sample": {}}),
    "DDIM CogVideoX": ("CogVideoXDDIMScheduler", {}, {"defaults": {}}),
    "DDPM": (
        "DDPMScheduler",
        {},
        {
            "clip_sample, fixed_small": {},
            "unclipped, fixed_large": {"clip_sample": False, "variance_type": "fixed_large"},
            "fixed_small_log, trailing": {"variance_type": "fixed_small_log", "timestep_spacing": "trailing"},
            "v, zero SNR": {"clip_sample": False, **_ZERO_SNR},
            "sample prediction": _X0,
        },
    ),
    "DDPM parallel": ("DDPMParallelScheduler", {}, {"clip_sample": {}}),
    "DDPM Wuerstchen": ("DDPMWuerstchenScheduler", {}, {"defaults": {}}),
    "unCLIP": ("UnCLIPScheduler", {}, {"clip_sample": {}, "sample prediction": _X0}),
    "DPM++ 2M": (
        "DPMSolverMultistepScheduler",
        _SD,
        {
            "defaults": {},
            "Karras": _KARRAS,
            "exponential": _EXPONENTIAL,
            "beta": _BETA,
            "Lu lambdas": {"use_lu_lambdas": True},
            "flow sigmas": _FLOW,
            "v, trailing": {"timestep_spacing": "trailing", **_V},
            "v, zero SNR": _ZERO_SNR,
            "sample prediction": _X0,
            "heun type, no lower order": {"solver_type": "heun", "lower_order_final": False},
            "euler_at_final, leading": {"euler_at_final": True, "timestep_spacing": "leading", "steps_offset": 1},
            "sigma_min at the end": {"final_sigmas_type": "sigma_min"},
        },
    ),
    "DPM++ 1": ("DPMSolverMultistepScheduler", {**_SD, "solver_order": 1}, {"defaults": {}}),
    "DPM++ 3M": ("DPMSolverMultistepScheduler", {**_SD, "solver_order": 3}, {"defaults": {}, "Karras": _KARRAS}),
    "SDE-DPM++ 2M": (
        "DPMSolverMultistepScheduler",
        {**_SD, **_NOISY},
        {"defaults": {}, "Karras, v": {**_KARRAS, **_V}},
    ),
    "SDE-DPM++ 3M": ("DPMSolverMultistepScheduler", {**_SD, **_NOISY, "solver_order": 3}, {"defaults": {}}),
    "DPM 2M": (
        "DPMSolverMultistepScheduler",
        {**_SD, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
        {"defaults": {}, "v": _V},
    ),
    "SDE-DPM 2M": (
        "DPMSolverMultistepScheduler",
        {**_SD, "algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"},
        {"defaults": {}},
    ),
    "DPM++ 2M inverse": ("DPMSolverMultistepInverseScheduler", _SD, {"defaults": {}}),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", _SD, {"defaults": {}, "Karras": _KARRAS, "v": _V}),
    "DPM++ 3S": ("DPMSolverSinglestepScheduler", {**_SD, "solver_order": 3}, {"defaults": {}}),
    "Euler": (
        "EulerDiscreteScheduler",
        _SD,
        {
            "defaults": {},
            "Karras": _KARRAS,
            "exponential": _EXPONENTIAL,
            "beta": _BETA,
            "v, zero SNR": _ZERO_SNR,
            "sample prediction": _X0,
            "log-linear, sigma_min": {"interpolation_type": "log_linear", "final_sigmas_type": "sigma_min"},
            "v, continuous": {"timestep_type": "continuous", **_V, "sigma_min": 0.002, "sigma_max": 700.0, **_KARRAS},
        },
    ),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", _SD, {"defaults": {}, "v": _V, "v, zero SNR": _ZERO_SNR}),
    "Heun": (
        "HeunDiscreteScheduler",
        _SD,
        {"defaults": {}, "clip_sample": {"clip_sample": True}, "Karras, v": {**_KARRAS, **_V}},
    ),
    "LMS": ("LMSDiscreteScheduler", _SD, {"defaults": {}, "Karras": _KARRAS, "v": _V}),
    "KDPM2": ("KDPM2DiscreteScheduler", _SD, {"defaults": {}, "Karras": _KARRAS, "v": _V}),
    "KDPM2 ancestral": ("KDPM2AncestralDiscreteScheduler", _SD, {"defaults": {}, "Karras": _KARRAS, "v": _V}),
    "UniPC 2": (
        "UniPCMultistepScheduler",
        _SD,
        {
            "defaults": {},
            "bh1": {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
            "Karras": _KARRAS,
            "flow sigmas": _FLOW,
            "v, zero SNR": _ZERO_SNR,
            "noise prediction": {"predict_x0": False, "final_sigmas_type": "sigma_min"},
            "corrector off at first": {"disable_corrector": [0, 1]},
        },
    ),
    "UniPC 3": ("UniPCMultistepScheduler", {**_SD, "solver_order": 3}, {"defaults": {}}),
    "DEIS 2": ("DEISMultistepScheduler", _SD, {"defaults": {}, "Karras": _KARRAS, "v": _V}),
    "DEIS 3": ("DEISMultistepScheduler", {**_SD, "solver_order": 3}, {"defaults": {}}),
    "SA": (
        "SASolverScheduler",
        _SD,
        {
            "defaults": {},
            "v, Karras": {**_KARRAS, **_V},
            "orders 3 and 4": {"predictor_order": 3, "corrector_order": 4},
        },
    ),
    "PNDM": (
        "PNDMScheduler",
        {**_SD, "skip_prk_steps": True},
        {"defaults": {}, "offset 1": {"steps_offset": 1, "set_alpha_to_one": False}, "v": _V},
    ),
    "PNDM, Runge-Kutta start": ("PNDMScheduler", _SD, {"defaults": {}}),
    "IPNDM": ("IPNDMScheduler", {}, {"defaults": {}}),
    "LCM": ("LCMScheduler", {}, {"defaults": {}, "clip_sample": {"clip_sample": True}, "v": _V}),
    "TCD": ("TCDScheduler", {}, {"defaults": {}, "v": _V}),
    "consistency": (
        "CMStochasticIterativeScheduler",
        {"num_train_timesteps": 200},
        {"clip_denoised": {}, "unclipped": {"clip_denoised": False}},
    ),
    "EDM Euler": ("EDMEulerScheduler", {}, {"defaults": {}, "exponential": {"sigma_schedule": "exponential"}}),
    "EDM DPM++ 2M": ("EDMDPMSolverMultistepScheduler", {}, {"defaults": {}, "v": _V}),
    "EDM DPM++ 3M": ("EDMDPMSolverMultistepScheduler", {"solver_order": 3}, {"defaults": {}}),
    "EDM SDE-DPM++ 2M": ("EDMDPMSolverMultistepScheduler", _NOISY, {"defaults": {}}),
    "flow Euler": (
        "FlowMatchEulerDiscreteScheduler",
        {},
        {"defaults": {}, "shift 3": {"shift": 3.0}, "Karras": _KARRAS, "stochastic": {"stochastic_sampling": True}},
    ),
    "flow Heun": ("FlowMatchHeunDiscreteScheduler", {}, {"defaults": {}, "shift 3": {"shift": 3.0}}),
    "flow LCM": ("FlowMatchLCMScheduler", {}, {"defaults": {}, "shift 3": {"shift": 3.0}}),
    "flow map Euler": ("FlowMapEulerDiscreteScheduler", {}, {"defaults": {}}),
    "flow Euler ancestral (LTX)": ("LTXEulerAncestralRFScheduler", {}, {"defaults": {}}),
    "flow MiniMax H3": ("MiniMaxH3Scheduler", {}, {"defaults": {}}),
}
_EXTRA = (
    SolverCase("DDIM", "DDIMScheduler", "eta 1", {**_SD, "clip_sample": False}, step_options={"eta": 1.0}),
    SolverCase(
        "DDIM",
        "DDIMScheduler",
        "eta 0.5, clipped output",
        _SD,
        step_options={"eta": 0.5, "use_clipped_model_output": True},
    ),
    SolverCase("Euler", "EulerDiscreteScheduler", "s_churn 5", _SD, step_options={"s_churn": 5.0}),
    SolverCase("TCD", "TCDScheduler", "eta 0", {}, step_options={"eta": 0.0}),
    SolverCase("LMS", "LMSDiscreteScheduler", "order 2", _SD, step_options={"order": 2}),
    SolverCase("flow Euler", "FlowMatchEulerDiscreteScheduler", "mu 0.8", {"use_dynamic_shifting": True}, {"mu": 0.8}),
    SolverCase("SCM", "SCMScheduler", "defaults", {}, {"intermediate_timesteps": None}),
)


def cases() -> tuple[SolverCase, ...]:
    """Every case of the table, the first variant of each solver first."""
    listed = [
        SolverCase(solver, scheduler, variant, {**base, **options})
        for solver, (scheduler, base, variants) in _TABLE.items()
        for variant, options in variants.items()
    ]
    return (*listed, *_EXTRA)


def unlisted() -> tuple[SolverCase, ...]:
    """The installed scheduler classes that the table does not hold, with their defaults: new ones, and refused ones."""
    known = {case.scheduler for case in cases()}
    classes = (name for name in dir(diffusers.schedulers) if name.endswith("Scheduler"))
    return tuple(SolverCase(name.removesuffix("Scheduler"), name) for name in classes if name not in known)


def refused_options() -> tuple[SolverCase, ...]:
    """Options of traceable schedulers that have no plan."""
    return (
        SolverCase("DDIM", "DDIMScheduler", "thresholding", {"thresholding": True}),
        SolverCase("DPM++ 2M", "DPMSolverMultistepScheduler", "thresholding", {"thresholding": True}),
        SolverCase("DDPM", "DDPMScheduler", "learned_range", {"variance_type": "learned_range"}),
        SolverCase("SDE-DPM++ 2S", "DPMSolverSinglestepScheduler", "noise kept", _NOISY),
        SolverCase(
            "DDIM",
            "DDIMScheduler",
            "epsilon, zero SNR",
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False},
        ),
    )
