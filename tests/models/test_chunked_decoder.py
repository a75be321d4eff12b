from itertools import combinations, pairwise

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.chunked_decoder import ChunkedDecoder, balanced, can_be_cut
from tiny_networks import quantised_autoencoder


def real_layout(layers=2, attention=False, middle=True, post_quant=True, norm_groups=4):
    """The published autoencoders' layout (Stable Diffusion's, and of older latent diffusion), narrower."""
    torch.manual_seed(layers + 2 * attention)
    kind = "AttnUpDecoderBlock2D" if attention else "UpDecoderBlock2D"
    return AutoencoderKL(
        block_out_channels=(8, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=(kind, *("UpDecoderBlock2D",) * 3),
        layers_per_block=layers,
        latent_channels=4,
        norm_num_groups=norm_groups,
        mid_block_add_attention=middle,
        use_post_quant_conv=post_quant,
    ).eval()


LAYOUTS = {
    "stable diffusion": ({}, 20),
    "one layer": ({"layers": 1}, 16),
    "attention in an up block": ({"attention": True}, 22),  # its third is one segment with the upsampler
    "no attention": ({"middle": False, "post_quant": False}, 19),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("height", "width", "batch"), [(4, 4, 1), (8, 6, 3), (16, 12, 2)])
@torch.inference_mode()
def test_the_chunks_are_the_decoder_bit_for_bit(layout, height, width, batch):
    autoencoder = real_layout(**LAYOUTS[layout][0])
    latents = torch.randn(batch, 4, height, width)
    expected = autoencoder.decode(latents).sample
    decoder = ChunkedDecoder(autoencoder, height, width)
    for count in (1, 2, 3, 5, decoder.max_chunks, decoder.max_chunks + 7):
        chunks = decoder.chunks(count)
        assert len(chunks) == min(count, decoder.max_chunks)
        state = latents
        for chunk in chunks:
            # As the engine keeps it: one slice a request, put together again for the next call.
            state = chunk(torch.cat([state[index : index + 1] for index in range(batch)]) if batch > 1 else state)
            assert len(state) == batch
        assert torch.equal(state, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_are_as_many_chunks_as_lie_between_boundaries(layout):
    options, expected = LAYOUTS[layout]
    assert ChunkedDecoder(real_layout(**options), 4, 4).max_chunks == expected


def test_the_costs_are_those_of_the_size():
    small, large = (ChunkedDecoder(real_layout(), side, side).costs for side in (8, 16))
    factors = [two / one for one, two in zip(small, large, strict=True)]
    assert min(factors) == 4  # everything but attention grows with the area
    assert max(factors) == factors[2] > 4


def test_half_precision_and_the_latents_stay_as_they_are():
    autoencoder = real_layout().to(torch.bfloat16)
    latents = torch.randn(2, 4, 8, 8, dtype=torch.bfloat16)
    before = latents.clone()
    with torch.inference_mode():
        state = latents
        for chunk in ChunkedDecoder(autoencoder, 8, 8).chunks(4):
            state = chunk(state)
        assert torch.equal(state, autoencoder.decode(latents).sample)
    assert torch.equal(latents, before)


@torch.no_grad()
def test_other_decoders_run_whole():
    tiled, sliced, hooked, compiled = (real_layout() for _ in range(4))
    tiled.enable_tiling()
    sliced.enable_slicing()
    hooked.decoder.mid_block.register_forward_hook(lambda module, inputs, output: output * 2)
    compiled.decoder.compile()
    small = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )  # fmt: skip
    for autoencoder in (tiled, sliced, hooked, compiled, small, quantised_autoencoder()):
        assert not can_be_cut(autoencoder)
        with pytest.raises(TypeError, match=type(autoencoder).__name__):
            ChunkedDecoder(autoencoder, 8, 8)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8), st.data())
def test_no_other_cut_is_more_even(costs, data):
    parts = data.draw(st.integers(1, len(costs)))

    def unevenness(bounds):
        return sum(sum(costs[a:b]) ** 2 for a, b in pairwise(bounds))

    found = balanced(costs, parts)
    assert (found[0], found[-1], len(found)) == (0, len(costs), parts + 1)
    assert all(a < b for a, b in pairwise(found))
    every = ([0, *inner, len(costs)] for inner in combinations(range(1, len(costs)), parts - 1))
    assert unevenness(found) == min(map(unevenness, every))


@pytest.mark.parametrize(
    ("kind", "most"), [("sd1", 16), ("sdxl", 16), ("pixart", 16), ("lcm", 16), ("dit", 16), ("ldm", 1), ("ddpm", 1)]
)
def test_every_family_decodes_in_chunks_what_it_decodes_whole(tiny_pipeline, kind, most):
    pipeline = tiny_pipeline(kind)
    assert pipeline.max_chunks == most
    shape = pipeline.latent_shape(*pipeline.default_size)
    latents = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():  # behind the loading: weights are no inference tensors
        expected = pipeline.decode(latents)
        for count in (1, 2, 5, 100):
            chunks = pipeline.decoder_chunks(shape, count)
            assert len(chunks) == min(count, most)
            state = latents
            for chunk in chunks:
                state = chunk(state)
            assert torch.equal(state, expected)
