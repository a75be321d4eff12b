import pytest
import torch

from headrace.benchmarks._peers import TGate, sample

pytest.importorskip("tgate.tgate_utils", reason="the extra 'peers' is not installed")


def test_after_the_gate_cross_attention_and_the_unconditional_branch_are_gone(network, plan, inputs, calls):
    queries, first = calls(network, "to_q"), calls(network, "conv_in")
    sample(TGate(gate=3), network, plan, *inputs)
    blocks = sum("attn2" in path for path in queries.rows)
    assert queries.count("attn2") == 3 * blocks
    assert queries.count("attn1") == len(plan) * blocks
    assert first.rows["conv_in"] == [4] * 3 + [2] * (len(plan) - 3)


def test_before_the_gate_self_attention_is_computed_on_every_kth_row(network, plan, inputs, calls):
    queries = calls(network, "to_q")
    sample(TGate(gate=6, interval=3, warm_up=1), network, plan, *inputs)
    blocks = sum("attn1" in path for path in queries.rows)
    # Row 0 is warm-up, row 1 fills the cache, 3 refreshes it, 5 is the gate's, 6 and 7 are behind the gate.
    assert queries.count("attn1") == 6 * blocks
    assert queries.count("attn2") == 6 * blocks


def test_what_is_reused_is_the_mean_over_both_branches(network, plan, inputs):
    """Equation 6, at a block's own attention."""
    latents, text = inputs
    attention = network.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    outputs = []
    watching = attention.register_forward_hook(lambda *call: outputs.append(call[2].clone()))
    peer = TGate(gate=1)
    with torch.inference_mode():
        peer.attach(network, plan)
        peer(0, latents, 900.0, text)
        peer(1, latents * 0.5, 800.0, text)
        peer.detach()
    watching.remove()
    conditional, unconditional = outputs[0].chunk(2)
    torch.testing.assert_close(outputs[1], (conditional + unconditional) / 2, rtol=0, atol=1e-6)
