"""The work that a cached block saves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headrace.models.blocks import find_blocks
from headrace.models.macs import block_macs, count_macs, one_row
from headrace.models.pipelines.loading import load
from headrace.models.row_cache import attached
from headrace.models.slot_cache import SlotCache
from headrace.request import Request


@pytest.mark.parametrize("kind", ["sd1", "pixart"])
def test_what_a_block_costs_is_what_a_reusing_row_saves(tiny_model, kind):
    pipeline = load(tiny_model(kind))
    request = Request(prompt="red apple")
    blocks = (find_blocks(pipeline.network, "branch")[0], find_blocks(pipeline.network, "cross_attention")[0])
    total, costs = block_macs(pipeline, request, blocks)
    assert total > costs[0] > costs[1] > 0
    row = one_row(pipeline, request)
    for number in range(len(blocks)):
        with attached(pipeline, blocks):
            caches = [SlotCache()]
            for evaluated in (True, False):
                compute = np.ones((1, len(blocks)), bool)
                compute[0, number] = evaluated
                columns = {"compute": compute, "keep": compute, "timestep": np.ones(1)}
                asked = replace(row, columns=columns, caches=caches)
                found = count_macs(lambda asked=asked: pipeline.denoise(asked)).total
        assert found == total - costs[number]
