"""Multistage's benchmark: its counts beside the paper's, evaluations by stage, and traffic that spans stages."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from headrace.benchmarks._multistage.architectures import (
    CHOSEN,
    CHOSEN_LDM,
    TABLES,
    UNIFIED,
    Architecture,
    by_equation_23,
    compare,
)
from headrace.benchmarks._multistage.cost import halves
from headrace.benchmarks._multistage.sampling import DPM, EDM, PAPER_AVERAGE, rows_by_sampling
from headrace.benchmarks._multistage.speed import APART, SHARED, measure
from headrace.benchmarks._multistage.speed import UNIFIED as ONE_DECODER
from headrace.benchmarks.multistage import _stages
from headrace.benchmarks.registry import BenchOptions
from headrace.errors import ArtefactError
from headrace.models.macs import count_macs
from headrace.techniques.multistage.artefact import StagesArtefact
from headrace.techniques.multistage.schedule import PAPER, Stages

SMALL = Architecture("small", 16, (), (), (0, 0)).unet | {"layers_per_block": 1, "norm_num_groups": 4}


@pytest.mark.parametrize("architecture", [UNIFIED, CHOSEN, CHOSEN_LDM], ids=lambda one: one.name)
def test_the_chosen_architectures_cost_what_the_paper_says(architecture):
    rows = rows_by_sampling(PAPER[3])[DPM] if len(architecture.decoders) == 3 else (1,)
    lines = compare(architecture, rows)
    assert all(line.within for line in lines), [(line.part, line.errors) for line in lines]


def test_halves_of_one_width_are_the_whole_network():
    cost = halves(SMALL, [16])
    with torch.device("meta"):
        whole = UNet2DModel(**SMALL)
        macs = count_macs(lambda: whole(torch.zeros(1, 3, 32, 32), torch.zeros(1))).total
    assert cost.parameters == sum(parameter.numel() for parameter in whole.parameters())
    assert cost.stages[0].macs + cost.stages[0].attention == macs
    assert halves(SMALL, [16], [False]).decoders[0].attention == 0 < cost.decoders[0].attention


def test_a_mean_evaluation_weighs_stages_by_their_rows():
    cost = halves(SMALL, [16, 8])
    near, far = (stage.gmac for stage in cost.stages)
    assert cost.average_gmac([3, 1]) == pytest.approx((3 * near + far) / 4)


def test_evaluations_are_those_of_20_and_35():
    rows = rows_by_sampling(PAPER[3])
    assert {name: sum(counts) for name, counts in rows.items()} == {DPM: 20, EDM: 35}
    assert set(rows) == set(PAPER_AVERAGE)
    assert sum(rows_by_sampling(Stages())[EDM]) == 35


def test_equation_23_gives_three_stages_back():
    parameters, widths = by_equation_23(PAPER[3])
    assert parameters == pytest.approx((169, 108, 47))
    assert widths == pytest.approx((192, 128, 16))


def test_tables_name_every_architecture_once():
    names = [one.name for one in TABLES]
    assert len(set(names)) == len(names) == 13
    assert all(len(one.paper) == len(one.decoders) for one in TABLES)


def test_traffic_spans_stages_and_all_networks_serve_it():
    services = measure(SMALL, [16, 16, 8], PAPER[3], 4, "cpu")
    assert list(services) == [ONE_DECODER, SHARED, APART]
    assert all(np.isfinite(one.images_per_second) and one.images_per_second > 0 for one in services.values())
    assert services[SHARED].stages_per_call > 1
    assert services[ONE_DECODER].stages_per_call == 1
    assert services[SHARED].rows_per_call == services[ONE_DECODER].rows_per_call


def test_boundaries_are_the_papers_or_those_of_an_artefact_of_three_stages(tmp_path):
    assert _stages(BenchOptions()) == (PAPER[3], "the paper's")
    for boundaries in ((0.43, 0.79), (0.5,)):
        stages = Stages(boundaries)
        StagesArtefact(
            model="CIFAR-10", weights="0", method="optimal-denoiser", data="CIFAR-10", images=9, kernel="vp",
            samples=4, boundaries=stages.boundaries, sigmas=stages.sigmas,
        ).save(tmp_path / f"{stages.count}.json")  # fmt: skip
    assert _stages(BenchOptions(data=tmp_path / "3.json")) == (Stages((0.43, 0.79)), "optimal-denoiser on CIFAR-10")
    with pytest.raises(ArtefactError, match="2 stages"):
        _stages(BenchOptions(data=tmp_path / "2.json"))
