"""Multiply-accumulate operations on Stable Diffusion 1.5's network at 512 px, against what the papers print.

They leave out attention's products of queries, keys and values; weights are on the meta device, so nothing is computed.
"""

import pytest
import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks._peers import DeepCache, TGate
from headrace.benchmarks._sd15 import CONFIG
from headrace.evaluation.cost import count_macs

pytest.importorskip("DeepCache", reason="the extra 'peers' is not installed")
pytest.importorskip("tgate.tgate_utils", reason="the extra 'peers' is not installed")


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(CONFIG)


def first_rows(peer, network, plan):
    """GMAC of the first row, which computes everything, and of the second, which reuses; both branches together."""
    sample, text = torch.zeros(1, 4, 64, 64, device="meta"), torch.zeros(2, 77, 768, device="meta")
    peer.attach(network, plan)
    try:
        counted = [count_macs(lambda row=row: peer(row, sample, float(plan.timestep[row]), text)) for row in range(2)]
    finally:
        peer.detach()
    return [(macs.total - macs.attention) / 1e9 for macs in counted]


def test_t_gate_leaves_the_work_that_its_paper_prints(network, plan):
    """Table 2: 16.938 TMAC for 25 steps, 9.875 with the gate at 5 and 11.641 at 10."""
    whole, gated = first_rows(TGate(gate=1), network, plan)
    for gate, printed in ((25, 16.938), (5, 9.875), (10, 11.641)):
        assert (gate * whole + (25 - gate) * gated) / 1e3 == pytest.approx(printed, rel=1e-3)


def test_deep_cache_leaves_the_work_that_its_paper_prints(network, plan):
    """Table 3: 338.83 GMAC, and 130.45 a step, which is what 13 whole steps of 50 come to: an interval of 4."""
    whole, partial = (both / 2 for both in first_rows(DeepCache(interval=4, branch=1), network, plan))
    refreshes = len(DeepCache(interval=4).refreshes(50))
    assert refreshes == 13
    assert whole == pytest.approx(338.83, rel=1e-3)
    assert (refreshes * whole + (50 - refreshes) * partial) / 50 == pytest.approx(130.45, rel=1e-3)
