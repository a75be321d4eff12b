"""What training costs, as a run's log and record have it."""

import json

import pytest
import tiny_recipes
import torch

from headrace.models.macs import count_macs
from headrace.models.pipelines.loading import load
from headrace.training.run import RunOptions, train
from headrace.training.work import Work, described, training_macs

STAGES = {"boundaries": [0.3, 0.6], "decoders": [16, 8, [4, 8]]}


@pytest.fixture
def data(tmp_path):
    return tiny_recipes.write_parquet(tmp_path / "pictures.parquet")


def forward(network, count=1, **options):
    sample = torch.zeros(count, 3, 16, 16)
    return count_macs(lambda: network(sample, torch.ones(count), **options)).total


def test_a_step_is_three_forward_passes_of_its_pictures():
    parts = {"stage_0": Work(100, 0.25, 10), "stage_1": Work(40, 0.75, 4)}
    assert training_macs(parts, 8) == 3 * 8 * (100 * 0.25 * 10 + 40 * 0.75 * 4)
    assert described({"network": Work(10**12, 1.0, 2)}, 5) == "30 TMAC of training"
    assert "stage_1 0.00288 in 4 steps" in described({**parts, "stage_1": Work(4 * 10**7, 0.75, 4)}, 8)


def test_a_plain_network_is_one_part(data):
    made = tiny_recipes.diffusion_objective(data)
    assert made.work(7) == {"network": Work(forward(made.unet), 1.0, 7)}


@pytest.mark.parametrize("shared", [True, False])
def test_each_stage_is_counted_with_its_share_of_noise_levels(data, shared):
    made = tiny_recipes.diffusion_objective(data, stages=STAGES | {"shared": shared})
    work = made.work(5)
    assert [part.macs for part in work.values()] == [forward(made.unet, stage=stage) for stage in range(3)]
    # Timesteps are uniform, and of the kernel's time line those of this schedule: boundaries are shares, within 1%.
    assert [part.share for part in work.values()] == pytest.approx([0.3, 0.3, 0.4], abs=0.01)
    assert sum(part.share for part in work.values()) == 1.0


def test_noise_levels_that_are_not_uniform_have_other_shares(data):
    work = tiny_recipes.diffusion_objective(data, stages=STAGES, process={"kind": "edm"}).work(1)
    assert work["stage_0"].share > 0.6


def test_a_picture_of_a_group_is_its_part_of_an_evaluation(data):
    made = tiny_recipes.diffusion_objective(data, fusion=2)
    assert made.work(1)["network"].macs == forward(made.unet, 2) // 2
    staged = tiny_recipes.diffusion_objective(data, fusion=2, stages=STAGES)
    assert staged.work(1)["stage_2"].macs == forward(staged.unet, 2, stage=2) // 2


def test_small_pictures_are_a_part_of_their_own(data):
    made = tiny_recipes.diffusion_objective(data, low_resolution={"share": 0.5, "scale": 0.5})
    work = made.work(3)
    assert set(work) == {"network", "network_low"}
    assert work["network_low"].macs < 0.3 * work["network"].macs
    assert work["network_low"].share == pytest.approx(0.5, abs=0.01)


def test_counting_leaves_the_network_and_the_draws_as_they_were(data):
    made, other = (tiny_recipes.diffusion_objective(data, stages=STAGES) for _ in range(2))
    torch.manual_seed(3)
    made.work(1)
    first = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(first, torch.rand(1))
    assert made.training == other.training
    batch = tiny_recipes.draw(made, 2)
    assert torch.equal(made(batch)["loss"], other(batch)["loss"])


def test_a_run_prints_logs_and_records_it(data, tmp_path, capfd):
    loop = tiny_recipes.LOOP | {"gradient_accumulation_steps": 3, "sample_every": 4, "keep_models": True}
    recipe = tiny_recipes.diffusion(data, stages=STAGES, loop=loop)
    folder = train(recipe, RunOptions(out=tmp_path / "run"))
    found = json.loads((folder / "training.json").read_text())["phases"]["diffusion"]
    parts = {name: Work(one["macs"], one["share"], one["steps"]) for name, one in found["macs"]["parts"].items()}
    total = training_macs(parts, 2 * 3)
    assert found["macs"]["training"] == pytest.approx(total)
    assert "training_tmac" not in found["last_figures"]
    lines = (tmp_path / "run" / "diffusion" / "log.csv").read_text().splitlines()
    place = lines[0].split(",").index("training_tmac")
    spent = [float(line.split(",")[place]) for line in lines[1:]]
    assert spent[-1] * 1e12 == pytest.approx(total, rel=1e-6)
    assert spent[0] == pytest.approx(spent[-1] / 8, rel=1e-6)
    assert "TMAC of training (stage_0" in " ".join(capfd.readouterr().err.split())
    kept = sorted((tmp_path / "run" / "diffusion" / "models").iterdir())
    assert [one.name for one in kept] == ["step-00000004", "step-00000008"]
    first, last, end = (load(one).network.state_dict() for one in (*kept, folder))
    assert any(not torch.equal(first[name], tensor) for name, tensor in last.items())
    assert all(torch.equal(end[name], tensor) for name, tensor in last.items())
