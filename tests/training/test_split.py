import copy

import numpy as np
import pytest
import torch
from line import trainer

from headrace.training.data import load_images
from headrace.training.run import make_objective
from headrace.training.split import Split


def rows(objective, split, step=3):
    batches = split.batches(objective, 7, step, torch.device("cpu"))
    return [(batch["images"], batch["posterior"]) for batch in batches]


@pytest.fixture
def objective(tiny_recipe, tmp_path):
    torch.manual_seed(0)
    return make_objective(tiny_recipe.phases["autoencoder"], load_images(tiny_recipe.data), tmp_path)


def test_however_a_step_is_divided_it_has_the_same_pictures_and_draws(objective):
    (images, noise), *_ = rows(objective, Split(12))
    assert Split(2, 3, 2).images == 12
    found = [rows(objective, Split(2, 3, 2, process)) for process in (0, 1)]
    together = [found[part % 2][part // 2] for part in range(6)]
    assert torch.equal(torch.cat([part[0] for part in together]), images)
    assert torch.equal(torch.cat([part[1] for part in together]), noise)
    assert not torch.equal(rows(objective, Split(12), step=4)[0][1], noise)


def test_accumulated_parts_learn_what_one_batch_learns(objective, tmp_path):
    """4 x 2 pictures against 8, eight steps in float32: losses agree to 1e-5, and so then do the weights.

    Those are allowed a tenth of one step's length: AdamW divides by the gradient's size, rounding errors included.
    """
    runs = []
    for parts, size in ((1, 8), (4, 2)):
        settings = {"batch_size": size, "gradient_accumulation_steps": parts, "learning_rate": 1e-3}
        run = trainer(tmp_path / str(parts), copy.deepcopy(objective), **settings)
        run.run(tmp_path / "model")
        runs.append(run)
    one, four = (run.log.series("loss")[1] for run in runs)
    assert len(one) == 8
    assert len(set(one)) == 8
    np.testing.assert_allclose(four, one, rtol=1e-5)
    norms = [run.log.series("gradient_norm")[1] for run in runs]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-4)
    for ours, theirs in zip(runs[0].weights.average.shadow_params, runs[1].weights.average.shadow_params, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
