"""A deep branch of the row cache is DeepCache, row by row: the authors' package gives the same outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headrace.benchmarks._peers import DeepCache
from headrace.models.denoiser import CONDITIONAL, UNCONDITIONAL, Rows
from headrace.models.row_cache import RowCache
from headrace.models.slot_cache import SlotCache
from headrace.techniques.postdiff.module_schedule import module_caching

pytest.importorskip("DeepCache", reason="the extra 'peers' is not installed")


def with_branch(network, path, plan, samples, text):
    """The guided output of each row of the plan, the branch evaluated as the plan says."""
    cache = RowCache(network, [path])
    requests = len(samples[0])
    slots = [SlotCache() for _ in range(requests)] * 2
    branches = np.repeat(np.array([CONDITIONAL, UNCONDITIONAL], np.int8), requests)
    outputs = []
    for row, sample in enumerate(samples):
        columns = {name: np.repeat(getattr(plan, name)[row][None], 2 * requests, 0) for name in cache.columns}
        rows = Rows(torch.cat([sample, sample]), torch.tensor(0), {}, branches, columns, slots)
        with cache.evaluating(rows):
            both = network(rows.sample, torch.tensor(plan.timestep[row]).float(), text, return_dict=False)[0]
        conditional, unconditional = both.chunk(2)
        outputs.append(unconditional + plan.guidance[row] * (conditional - unconditional))
    cache.remove()
    return outputs


@pytest.mark.parametrize(
    ("number", "path"), [(0, "branch.0.0"), (1, "branch.0.1"), (2, "branch.0.2"), (5, "branch.1.2")]
)
@torch.inference_mode()
def test_every_row_is_what_the_authors_package_gives(deep_network, plan, inputs, number, path):
    latents, text = inputs
    samples = [latents * (1 - 0.1 * row) for row in range(len(plan))]
    peer = DeepCache(interval=3, branch=number)
    peer.attach(deep_network, plan)
    expected = [peer(row, sample, plan.timestep[row], text) for row, sample in enumerate(samples)]
    peer.detach()
    own = with_branch(deep_network, path, module_caching(plan, [path], interval=3), samples, text)
    for row, (one, other) in enumerate(zip(own, expected, strict=True)):
        assert torch.equal(one, other), row
    assert not torch.equal(own[1], with_branch(deep_network, path, plan, samples, text)[1])
