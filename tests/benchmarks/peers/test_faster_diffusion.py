import pytest
import torch

from headrace.benchmarks._peers import FasterDiffusion, Uncached, sample
from headrace.errors import HeadraceError


def test_the_encoder_runs_on_key_rows_and_the_decoder_on_all(deep_network, plan, inputs, calls):
    counted = calls(deep_network, "conv1")
    peer = FasterDiffusion(interval=3)
    sample(peer, deep_network, plan, *inputs)
    assert peer.key_rows(len(plan)) == (0, 3, 6)
    assert {len(rows) for path, rows in counted.rows.items() if "up_blocks" in path} == {len(plan)}
    assert {len(rows) for path, rows in counted.rows.items() if "up_blocks" not in path} == {3}


def test_the_paper_s_key_rows_keep_their_shares_of_other_step_counts(deep_network, plan, inputs, calls):
    peer = FasterDiffusion()
    assert peer.key_rows(50) == (0, 1, 2, 3, 5, 10, 15, 25, 35)
    assert peer.key_rows(20) == (0, 1, 2, 4, 6, 10, 14)
    assert peer.key_rows(1) == (0,)
    counted = calls(deep_network, "mid_block.resnets.0.conv1")
    sample(peer, deep_network, plan, *inputs)
    assert counted.count() == len(peer.key_rows(len(plan))) < len(plan)


def test_between_key_rows_only_time_goes_on(network, plan, inputs):
    """Whatever the sample is: the same timestep gives the key row's own output again, another one gives another."""
    latents, text = inputs
    peer = FasterDiffusion(interval=3)
    with torch.inference_mode():
        peer.attach(network, plan)
        key = peer(0, latents, 900.0, text)
        again = peer(1, 2 * latents, 900.0, text)
        later = peer(2, latents, 500.0, text)
        refreshed = peer(3, 2 * latents, 900.0, text)
        peer.detach()
        plain = Uncached()
        plain.attach(network, plan)
        expected = plain(3, 2 * latents, 900.0, text)
        plain.detach()
    torch.testing.assert_close(again, key, rtol=0, atol=1e-6)
    assert not torch.allclose(later, key, atol=1e-3)
    assert torch.equal(refreshed, expected)


def test_a_network_of_one_layer_a_level_and_sizes_that_do_not_divide(flat_network, plan, inputs):
    latents, text = inputs
    odd = latents[..., :7, :7]
    plain = sample(Uncached(), flat_network, plan, odd, text)
    assert torch.equal(sample(FasterDiffusion(1), flat_network, plan, odd, text), plain)
    assert torch.isfinite(sample(FasterDiffusion(4), flat_network, plan, odd, text)).all()


def test_networks_with_more_than_text_are_refused(network, plan):
    network.register_to_config(addition_embed_type="text_time")
    with pytest.raises(HeadraceError, match="addition_embed_type"):
        FasterDiffusion().attach(network, plan)
