import torch
from diffusers import UNet2DConditionModel

from headrace.benchmarks import _sd15


def test_the_configuration_is_that_of_stable_diffusion_1_5():
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(_sd15.CONFIG)
    assert sum(parameter.numel() for parameter in network.parameters()) == _sd15.PARAMETERS
    assert not list(network.buffers())  # which `to_empty` would leave without values


def test_weights_are_random_finite_and_the_same_each_time(monkeypatch):
    """On a narrower network of the same blocks, with a pool that ends within layers."""
    monkeypatch.setattr(
        _sd15, "CONFIG", _sd15.CONFIG | {"block_out_channels": (32, 32, 64, 64), "attention_head_dim": 4}
    )
    monkeypatch.setattr(_sd15, "_POOL", 10_007)
    network, again = _sd15.sd15_unet(), _sd15.sd15_unet()
    for (name, parameter), other in zip(network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(parameter, other)
        if parameter.ndim > 1:
            spread = float(parameter.std()) * parameter[0].numel() ** 0.5
            assert 0.9 < spread < 1.1, name
    assert len(torch.unique(network.down_blocks[0].resnets[0].conv1.weight)) > 9000
    text, first = _sd15.text_embeddings(2), _sd15.latents(2, 256)
    assert text.shape == (2, 77, 768)
    assert first.shape == (2, 4, 32, 32)
    with torch.inference_mode():
        output = network(first[..., :8, :8], torch.tensor(500.0), text, return_dict=False)[0]
    assert torch.isfinite(output).all()
    assert 0.01 < float(output.std()) < 100


def test_another_dtype_holds_the_same_weights_rounded(monkeypatch):
    monkeypatch.setattr(
        _sd15, "CONFIG", _sd15.CONFIG | {"block_out_channels": (32, 32, 32, 32), "attention_head_dim": 4}
    )
    monkeypatch.setattr(_sd15, "_POOL", 10_007)
    exact, rounded = _sd15.sd15_unet(), _sd15.sd15_unet(dtype=torch.bfloat16)
    for parameter, other in zip(exact.parameters(), rounded.parameters(), strict=True):
        assert other.dtype == torch.bfloat16
        torch.testing.assert_close(other.float(), parameter, rtol=0.01, atol=1e-6)
