import numpy as np

from headrace.benchmarks._peers import AttentionBroadcast, sample


def test_attention_is_computed_once_in_its_range(network, plan, inputs, calls):
    queries = calls(network, "to_q")
    sample(AttentionBroadcast(2, 3, (0, 1000)), network, plan, *inputs)
    blocks = sum("attn1" in path for path in queries.rows)
    inside = [row for row, timestep in enumerate(plan.timestep) if 0 < timestep < 1000]
    assert inside == list(range(len(plan)))
    assert queries.count("attn1") == 4 * blocks  # rows 0, 2, 4 and 6 of 8
    assert queries.count("attn2") == 3 * blocks  # rows 0, 3 and 6


def test_outside_the_timesteps_everything_is_computed(network, plan, inputs, calls):
    queries = calls(network, "to_q")
    sample(AttentionBroadcast(99, 99, (300, 700)), network, plan, *inputs)
    blocks = sum("attn1" in path for path in queries.rows)
    computed = int(np.sum((plan.timestep <= 300) | (plan.timestep >= 700)))
    assert 0 < computed < len(plan)
    assert queries.count("attn1") == queries.count("attn2") == computed * blocks


def test_the_feed_forward_and_the_convolutions_are_never_skipped(network, plan, inputs, calls):
    forward, convolution = calls(network, "ff.net.2"), calls(network, "conv1")
    sample(AttentionBroadcast(99, 99, (0, 1000)), network, plan, *inputs)
    assert {len(rows) for counted in (forward, convolution) for rows in counted.rows.values()} == {len(plan)}
