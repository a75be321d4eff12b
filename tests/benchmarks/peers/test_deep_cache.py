import numpy as np
import pytest
import torch

from headrace.benchmarks._peers import DeepCache, Uncached, sample
from headrace.benchmarks._peers.deep_cache import non_uniform_rows

pytest.importorskip("DeepCache", reason="the extra 'peers' is not installed")


def test_the_deep_part_runs_on_every_nth_row_and_the_shallow_part_on_all(deep_network, plan, inputs, calls):
    counted = calls(deep_network, "conv1")
    peer = DeepCache(interval=3, branch=1)
    sample(peer, deep_network, plan, *inputs)
    assert peer.refreshes(8) == (0, 3, 6)
    per_row = {path: len(rows) for path, rows in counted.rows.items()}
    # Branch 1: the first layer down and the last two up stay (the paper's skip branch 2).
    shallow = {"down_blocks.0.resnets.0.conv1", "up_blocks.3.resnets.1.conv1", "up_blocks.3.resnets.2.conv1"}
    assert {path for path, count in per_row.items() if count == len(plan)} == shallow
    assert {count for path, count in per_row.items() if path not in shallow} == {3}


@pytest.mark.parametrize(("branch", "layers"), [(0, 1), (1, 3), (2, 5), (3, 6), (5, 10), (11, 20)])
def test_the_deeper_the_branch_the_more_runs_on_every_row(deep_network, plan, inputs, calls, branch, layers):
    counted = calls(deep_network, "conv1")
    sample(DeepCache(interval=4, branch=branch), deep_network, plan, *inputs)
    assert sum(len(rows) == len(plan) for rows in counted.rows.values()) == layers


def test_it_reuses_the_features_that_enter_the_up_sampling_step(network, plan, inputs):
    """Written out by hand for branch 0: equation 5 with the features of the row before."""
    peer = DeepCache(interval=2, branch=0)
    latents, text = inputs
    both = torch.cat([latents, latents])
    kept = []
    entering = network.up_blocks[1].attentions[1].register_forward_hook(lambda *call: kept.append(call[2][0]))
    timesteps = [900.0, 850.0]
    with torch.inference_mode():
        peer.attach(network, plan)
        peer(0, latents, timesteps[0], text)
        reused = peer(1, latents * 0.9, timesteps[1], text)
        peer.detach()
        entering.remove()
        embedded = network.time_embedding(network.time_proj(torch.full((4,), timesteps[1])))
        skip = network.conv_in(both * 0.9)
        last = network.up_blocks[1]
        hidden = last.resnets[2](torch.cat([kept[0], skip], 1), embedded)
        hidden = last.attentions[2](hidden, encoder_hidden_states=text, return_dict=False)[0]
        outputs = network.conv_out(network.conv_act(network.conv_norm_out(hidden)))
    conditional, unconditional = outputs.chunk(2)
    expected = unconditional + 5.0 * (conditional - unconditional)
    torch.testing.assert_close(reused, expected, rtol=0, atol=1e-5)


def test_timesteps_that_repeat_are_rows_of_their_own(network, repeating_plan, inputs, calls):
    assert len(set(repeating_plan.timestep.tolist())) < len(repeating_plan)
    counted = calls(network, "mid_block.resnets.0.conv1")
    sample(DeepCache(interval=3), network, repeating_plan, *inputs)
    assert counted.count() == len(DeepCache(interval=3).refreshes(len(repeating_plan)))


def test_the_non_uniform_strategy_refreshes_more_often_around_its_centre(deep_network, plan, inputs, calls):
    rows = non_uniform_rows(50, 10, 15, 1.4)
    gaps = np.diff(rows)
    assert rows[0] == 0
    assert len(rows) <= 11
    assert rows[-1] < 50
    nearest = int(np.abs(np.array(rows) - 15).argmin())
    assert gaps[nearest] < gaps[-1]
    assert gaps[nearest] < gaps[0]
    assert non_uniform_rows(50, 10, 0, 1.0) == tuple(range(0, 50, 5))
    counted = calls(deep_network, "mid_block.resnets.0.conv1")
    peer = DeepCache(interval=2, centre=3)
    sample(peer, deep_network, plan, *inputs)
    assert counted.count() == len(peer.refreshes(len(plan))) < len(plan)


def test_a_network_of_one_layer_a_level_is_cached_too(flat_network, plan, inputs, calls):
    plain = sample(Uncached(), flat_network, plan, *inputs)
    for branch in (0, 2, 3, 5):
        assert torch.equal(sample(DeepCache(1, branch), flat_network, plan, *inputs), plain)
        counted = calls(flat_network, "mid_block.resnets.0.conv1")
        assert torch.isfinite(sample(DeepCache(4, branch), flat_network, plan, *inputs)).all()
        assert counted.count() == 2
