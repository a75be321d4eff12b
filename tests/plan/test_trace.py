"""Traced plans against the schedulers they came from."""

from __future__ import annotations

import time

import diffusers
import numpy as np
import pytest
import torch

from headrace.benchmarks._solver_cases import SolverCase, cases
from headrace.benchmarks._solver_loop import plan_sample, relative_difference, scheduler_sample
from headrace.errors import NotLinearError, SolverError
from headrace.plan import Plan
from headrace.plan.trace import clear_cache, trace

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning")]
CASES = cases()


def traced(case: SolverCase, steps: int) -> Plan:
    return trace(case.build(), steps, step_options=case.step_options, **case.schedule)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.solver}-{case.variant}")
def test_a_plan_samples_what_its_scheduler_samples(case: SolverCase) -> None:
    # From sigma 700 or 4096, diffusers itself rounds by more than 1e-5; no plan may round much more than its scheduler.
    for steps in (5, 8):
        exact = scheduler_sample(case, steps, torch.float64, seed=steps)
        own = scheduler_sample(case, steps, seed=steps)
        ours = plan_sample(traced(case, steps), seed=steps)
        assert relative_difference(ours, exact) <= max(1e-5, 4 * relative_difference(own, exact))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.solver}-{case.variant}")
def test_in_float64_nothing_but_rounding_is_left(case: SolverCase) -> None:
    plan = traced(case, 9)
    assert relative_difference(plan_sample(plan, torch.float64), scheduler_sample(case, 9, torch.float64)) <= 1e-11


def test_the_solvers_of_the_design_have_the_history_they_need() -> None:
    expected = {
        "DDIM": 1,
        "DPM++ 2M": 2,
        "DPM++ 3M": 3,
        "UniPC 2": 3,
        "UniPC 3": 4,
        "Euler": 1,
        "Heun": 2,
        "LMS": 4,
        "PNDM": 5,
        "SA": 3,
    }
    for solver, history in expected.items():
        case = next(case for case in CASES if case.solver == solver)
        assert traced(case, 20).history == history, solver


def test_rows_may_outnumber_steps_and_ancestral_streams_stay_in_step() -> None:
    assert len(trace(diffusers.HeunDiscreteScheduler(), 10)) == 19
    assert len(trace(diffusers.PNDMScheduler(skip_prk_steps=True), 10)) == 11
    ancestral = trace(diffusers.KDPM2AncestralDiscreteScheduler(), 5)
    assert ancestral.steps == 5
    assert ancestral.draws.sum() == 4
    euler = trace(diffusers.EulerAncestralDiscreteScheduler(), 5)
    assert euler.draws.tolist() == [1] * 5
    assert euler.noise[-1] == 0
    assert trace(diffusers.DDPMScheduler(), 5).draws.tolist() == [1, 1, 1, 1, 0]


def test_clipping_is_recorded_beside_the_raw_output() -> None:
    plan = trace(diffusers.DDIMScheduler(clip_sample=True, clip_sample_range=1.5), 6)
    assert plan.clip.tolist() == [[-1.5, 1.5]] * 6
    assert (plan.c[:-1] != 0).all()
    assert plan.register == "data prediction"
    unclipped = trace(diffusers.DDIMScheduler(clip_sample=False), 6)
    assert np.isinf(unclipped.clip).all()
    assert (unclipped.c == 0).all()


def test_repeated_first_timesteps_are_separate_rows() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_beta_sigmas=True, beta_schedule="scaled_linear", beta_end=0.012
    )
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[0] == scheduler.timesteps[1]
    plan = trace(scheduler, 50)
    assert plan.timestep[0] == plan.timestep[1]
    assert plan.p[0] != plan.p[1]


def test_the_scheduler_and_the_random_state_are_left_alone() -> None:
    scheduler = diffusers.EulerAncestralDiscreteScheduler()
    scheduler.set_timesteps(7)
    before, state = scheduler.timesteps.clone(), torch.random.get_rng_state()
    trace(scheduler, 12)
    assert torch.equal(scheduler.timesteps, before)
    assert scheduler.step_index is None
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_scheduler_in_the_middle_of_a_run_traces_like_a_fresh_one() -> None:
    used, fresh = diffusers.UniPCMultistepScheduler(), diffusers.UniPCMultistepScheduler()
    used.set_timesteps(10)
    x = torch.randn(1, 3, 8, 8)
    for timestep in used.timesteps[:4]:
        x = used.step(torch.tanh(x), timestep, x).prev_sample
    clear_cache()
    plan = trace(used, 10)
    clear_cache()
    assert plan == trace(fresh, 10)


def test_equal_settings_share_a_plan_and_others_do_not() -> None:
    clear_cache()
    plan = trace(diffusers.DDIMScheduler(), 10)
    assert trace(diffusers.DDIMScheduler(), 10) is plan
    assert trace(diffusers.DDIMScheduler(), 11) != plan
    assert trace(diffusers.DDIMScheduler(clip_sample=False), 10) != plan
    assert trace(diffusers.DDIMScheduler(), 10, step_options={"eta": 1.0}) != plan
    assert trace(diffusers.DDIMParallelScheduler(), 10) != plan


def test_the_cache_is_bounded() -> None:
    from headrace.plan.trace import _CACHED_PLANS, _cache

    scheduler = diffusers.DDIMScheduler(num_train_timesteps=1000)
    for steps in range(1, 4):
        for order in range(_CACHED_PLANS // 3 + 2):
            trace(scheduler, steps, step_options={"eta": order / 1000})
    assert len(_cache) == _CACHED_PLANS
    clear_cache()
    assert len(_cache) == 0


def test_the_shift_of_a_flow_scheduler_is_honoured() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    plain = trace(scheduler, 8)
    scheduler.set_shift(3.0)
    shifted = trace(scheduler, 8)
    assert shifted != plain
    scheduler.set_timesteps(8)
    assert np.array_equal(shifted.timestep, scheduler.timesteps.numpy())


def test_custom_schedules() -> None:
    timesteps = [999, 700, 300, 50]
    plan = trace(diffusers.DDPMScheduler(), None, timesteps=timesteps)
    assert plan.timestep.tolist() == timesteps
    assert plan.steps == 4
    sigmas = [10.0, 4.0, 1.0, 0.0]
    euler = trace(diffusers.EulerDiscreteScheduler(), None, sigmas=sigmas)
    assert len(euler) == 3
    assert np.allclose(euler.a * 1.0, [0.4, 0.25, 0.0])  # x' = (next sigma / sigma) x + (1 - next sigma / sigma) x0
    flow = trace(
        diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), None, sigmas=[1.0, 0.6, 0.2], mu=0.8
    )
    assert len(flow) == 3
    with pytest.raises(SolverError, match="mu"):
        trace(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), 8)


def test_a_function_among_the_options_is_traced_but_not_cached() -> None:
    quiet = trace(diffusers.SASolverScheduler(tau_func=lambda t: 0.0), 8)
    noisy = trace(diffusers.SASolverScheduler(tau_func=lambda t: 1.0), 8)
    assert (quiet.noise == 0).all()
    assert (noisy.noise[:-1] != 0).all()


def test_numpy_betas_and_long_plans() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    assert len(trace(diffusers.DDIMScheduler(trained_betas=betas), 10)) == 10
    assert len(trace(diffusers.DDPMScheduler(), 1000)) == 1000


@pytest.mark.parametrize("steps", [0, -3, 5000, 2.5, None, True, "10"])
def test_impossible_steps(steps: object) -> None:
    with pytest.raises(SolverError, match="steps"):
        trace(diffusers.DDIMScheduler(), steps)  # type: ignore[arg-type]


def test_more_steps_than_the_scheduler_was_trained_with() -> None:
    with pytest.raises(SolverError, match="DDIMScheduler cannot take 60 steps"):
        trace(diffusers.DDIMScheduler(num_train_timesteps=50), 60)
    with pytest.raises(SolverError, match="LCMScheduler cannot take 80 steps"):
        trace(diffusers.LCMScheduler(original_inference_steps=50), 80)


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (lambda: diffusers.DDIMScheduler(thresholding=True), ["DDIMScheduler", "thresholding"]),
        (lambda: diffusers.UniPCMultistepScheduler(thresholding=True), ["UniPCMultistepScheduler", "thresholding"]),
        (
            lambda: diffusers.DDPMScheduler(variance_type="learned_range"),
            ["DDPMScheduler", "variance_type", "learned_range"],
        ),
        (lambda: diffusers.DPMSolverMultistepScheduler(variance_type="learned"), ["variance_type", "learned"]),
        (
            lambda: diffusers.DPMSolverSinglestepScheduler(algorithm_type="sde-dpmsolver++"),
            ["Singlestep", "sde-dpmsolver++"],
        ),
        (lambda: diffusers.VQDiffusionScheduler(num_vec_classes=16), ["VQDiffusionScheduler", "tokens"]),
    ],
)
def test_what_is_not_linear_is_refused_by_name(scheduler, words: list[str]) -> None:
    with pytest.raises(NotLinearError) as raised:
        trace(scheduler(), 12)
    for word in words:
        assert word in str(raised.value)


class _Curved(diffusers.DDIMScheduler):
    """Linear on unit vectors of any size up to one, curved on data: only the probes can tell."""

    def step(self, model_output, timestep, sample, eta=0.0, generator=None, return_dict=True):
        result = super().step(model_output, timestep, sample, eta, generator=generator)
        excess = torch.relu(sample.abs() - 1.0) * sample.sign()
        result.prev_sample = result.prev_sample + 0.1 * excess
        return result


def test_the_residual_finds_a_step_that_bends_the_data() -> None:
    with pytest.raises(NotLinearError, match="_Curved"):
        trace(_Curved(clip_sample=False), 6)


def test_objects_and_arguments_that_are_not_schedulers_or_options() -> None:
    with pytest.raises(SolverError, match="int has no set_timesteps"):
        trace(3, 10)
    with pytest.raises(SolverError, match="takes no 'sigmas'"):
        trace(diffusers.DDIMScheduler(), 10, sigmas=[1.0])
    with pytest.raises(SolverError, match="takes no 'etta'"):
        trace(diffusers.DDIMScheduler(), 10, step_options={"etta": 1.0})
    with pytest.raises(SolverError, match="original_image"):
        trace(diffusers.RePaintScheduler(), 10)
    with pytest.raises(SolverError, match="divides by zero"):
        trace(diffusers.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing"), 10)
    with pytest.raises(SolverError, match="solver_p"):
        trace(diffusers.UniPCMultistepScheduler(solver_p=diffusers.DDIMScheduler()), 10)


@pytest.mark.parametrize("solver", ["DDIM", "DPM++ 2M", "Euler", "UniPC 2", "Heun"])
def test_fifty_steps_trace_quickly(solver: str) -> None:
    case = next(case for case in CASES if case.solver == solver)
    best = float("inf")
    for _ in range(5):
        clear_cache()
        start = time.process_time()
        traced(case, 50)
        best = min(best, time.process_time() - start)
    assert best < 0.2, f"{best * 1e3:.0f} ms"


def test_traced_plans_survive_a_file(tmp_path) -> None:
    plan = trace(diffusers.UniPCMultistepScheduler(), 9)
    plan.save(tmp_path / "unipc.parquet")
    assert Plan.load(tmp_path / "unipc.parquet") == plan
