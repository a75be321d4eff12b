"""Similarity of the optimal denoiser between noise levels, and the stages that follow, on small data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headrace.errors import ArtefactError, CalibrationError
from headrace.models.pipelines.loading import load
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.calibrate import Question, stages_by_denoiser, stages_by_gradient
from headrace.techniques.multistage.gradient import gradient_affinity
from headrace.techniques.multistage.kernel import kernel_of
from headrace.techniques.multistage.optimal_denoiser import OptimalDenoiser
from headrace.techniques.multistage.similarity import measure_ends, measure_grid, share_within
from tiny_networks import pixel_unet

VP = kernel_of("vp")
QUESTION = Question(samples=200, grid_samples=4, step=0.1)


@pytest.fixture(scope="module")
def denoiser():
    random = np.random.default_rng(0)
    shades = random.integers(0, 256, (40, 1)) * 0.7 + random.integers(0, 256, (40, 60)) * 0.3
    return OptimalDenoiser(torch.from_numpy(shades.astype(np.uint8)))


def test_similarity_is_the_share_of_numbers_within_the_threshold():
    first = torch.tensor([[0.0, 0.5, 1.0, 2.0]])
    assert share_within(first, torch.zeros(4), 0.5).tolist() == [0.5]


def test_ends_are_similar_to_themselves_and_not_to_one_another(denoiser):
    found = measure_ends(denoiser, VP, 100, 2 / 256, own=True)
    assert (np.diff(found.times) > 0).all()
    assert found.times[0] >= VP.first
    for prediction in ("noise", "data"):
        assert found.to_image[prediction][:3].mean() > 0.99
        assert found.to_noise[prediction, "own"][-3:].mean() > 0.8
        assert found.to_noise[prediction, "mean"][:10].mean() < 0.2
    assert found.to_noise["noise", "mean"][-10:].mean() > 0.99


def test_the_end_of_pure_noise_needs_no_second_evaluation(denoiser):
    evaluated = []
    found = measure_ends(denoiser, VP, 30, 2 / 256, progress=evaluated.append)
    assert set(found.to_noise) == {("noise", "mean"), ("data", "mean")}
    assert sum(evaluated) == 30


def test_the_table_has_equation_6_of_all_pairs(denoiser):
    times = VP.grid(0.25)
    assert times == pytest.approx([0.001, 0.251, 0.501, 0.751, 1])
    tables = measure_grid(denoiser, VP, times, 60, 0.02, seed=5)
    for table in tables.values():
        assert (table == table.T).all()
        assert (np.diag(table) == 1).all()
        assert ((table >= 0) & (table <= 1)).all()
    # The denoisers of both ends predict nearly the noise itself, and another image.
    assert tables["noise"][0, -1] > 0.9 > 0.5 > tables["data"][0, -1]


def test_three_stages_are_those_of_algorithm_1_and_others_those_of_algorithm_2(denoiser):
    three = stages_by_denoiser(denoiser, QUESTION)
    assert three.ends is not None
    assert three.stages.count == 3
    five = stages_by_denoiser(denoiser, replace(QUESTION, stages=5))
    assert five.ends is None
    assert five.stages.count == 5
    middles = (five.times[1:-1] + five.times[:-2]) / 2
    assert all(np.isclose(middles, boundary).any() for boundary in five.stages.boundaries)
    again = stages_by_denoiser(denoiser, QUESTION)
    assert again.stages == three.stages


def test_edm_stages_are_matched_by_signal_to_noise_ratio(denoiser):
    """The same data has its boundaries at about the same noise, whatever the kernel that samples are spread over."""
    vp, edm = (stages_by_denoiser(denoiser, replace(QUESTION, kernel=name, stages=2)).stages for name in ("vp", "edm"))
    assert edm.sigmas[0] == pytest.approx(vp.sigmas[0], rel=1.5)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"eta": 0}, "eta"), ({"eta": 2}, "eta"), ({"eta": float("nan")}, "eta"), ({"alpha": 1}, "alpha"),
        ({"alpha": -1}, "alpha"), ({"samples": 1}, "samples"), ({"grid_samples": 0}, "grid_samples"),
        ({"stages": 1}, "1 stages"), ({"stages": 99}, "99 stages"), ({"step": 0}, "apart"), ({"kernel": "x"}, "'x'"),
        ({"prediction": "x"}, "'x'"), ({"end": "x"}, "'x'"), ({"seed": -1}, "seed"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_before_any_work(changed, word):
    with pytest.raises(CalibrationError, match=word):
        replace(QUESTION, **changed)


def test_gradients_at_near_noise_levels_are_more_alike():
    torch.manual_seed(0)
    with torch.no_grad():
        network = pixel_unet()
    images = torch.rand(4, network.config.in_channels, 16, 16) * 2 - 1
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    affinity = gradient_affinity(network, alphas, images, [10, 15, 900])
    assert np.diag(affinity) == pytest.approx(np.ones(3), abs=1e-5)
    assert affinity[0, 1] > affinity[0, 2]
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(CalibrationError, match="1000"):
        gradient_affinity(network, alphas, images, [1000])


def test_stages_of_gradients_are_times_of_the_variance_preserving_kernel(tiny_model):
    pipeline = load(tiny_model("ddpm"))
    channels, height, width = pipeline.latent_shape(*pipeline.default_size)
    images = torch.rand(2, channels, height, width) * 2 - 1
    answer = stages_by_gradient(pipeline, images, 3, count=9)
    assert answer.stages.count == 3
    assert answer.similarity.shape == (9, 9)
    assert (np.diff(answer.times) > 0).all()
    with pytest.raises(CalibrationError, match="2 timesteps"):
        stages_by_gradient(pipeline, images, 3, count=2)


def test_models_without_such_gradients_are_refused(tiny_model):
    with pytest.raises(CalibrationError, match="unconditional UNet2DModel"):
        stages_by_gradient(load(tiny_model("dit")), torch.zeros(2, 3, 8, 8), 3)


def artefact(**changed):
    fields = {
        "model": "optimal denoiser", "weights": "0123", "method": "optimal-denoiser", "data": "emoji", "images": 9,
        "kernel": "vp", "samples": 10, "boundaries": (0.442, 0.631), "sigmas": (2.5067, 7.4194),
    }  # fmt: skip
    return StagesArtefact(**fields | changed)


def test_a_file_holds_the_stages(tmp_path):
    from headrace.techniques.multistage.schedule import Stages

    stages = Stages((0.442, 0.631))
    made = artefact(sigmas=stages.sigmas, times=(0.0, 1.0), similarity=((1.0, 0.5), (0.5, 1.0)))
    made.save(tmp_path / "stages.json")
    assert StagesArtefact.load(tmp_path / "stages.json") == made
    assert made.stages == stages
    for changed, word in (
        ({"boundaries": (0.6, 0.4)}, "increase"),
        ({"boundaries": (0.4, 1.4)}, "between 0 and 1"),
        ({"sigmas": (1.0, 2.0)}, "sigmas"),
        ({"times": (0.0, 0.5, 1.0)}, "3 by 3"),
    ):
        with pytest.raises(ArtefactError, match=word):
            artefact(**{"sigmas": stages.sigmas, **changed})
