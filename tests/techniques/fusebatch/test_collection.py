"""Networks of several fusion factors in one folder."""

import json

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DiTPipeline, LDMPipeline, UNet2DModel
from transformers import CLIPTextModel

from headrace.errors import ModelError, PlanError, UnsupportedModelError
from headrace.models.pipelines.loading import load
from headrace.techniques.fusebatch.collection import collect, write
from headrace.techniques.fusebatch.network import FuseBatchUNet2DModel
from headrace.techniques.fusebatch.text_network import FuseBatchUNet2DConditionModel
from tiny_networks import NARROW_UNET, autoencoder, clip_text_model, dit_transformer, quantised_autoencoder


def network(factor, kernel_size=3, **options):
    torch.manual_seed(factor)
    unet = NARROW_UNET | options
    return UNet2DModel(**unet) if factor == 1 else FuseBatchUNet2DModel([factor], unet, kernel_size)


@pytest.fixture
def model(tmp_path):
    """model(K, ...) -> folder of a pixel model for this K."""

    def build(factor, scheduler=None, dtype=torch.float32, name=None, **options):
        folder = tmp_path / (name or f"k{factor}")
        pipeline = DDPMPipeline(network(factor, **options).to(dtype), scheduler or DDPMScheduler())
        pipeline.save_pretrained(folder)
        return folder

    return build


def test_each_factor_keeps_its_network(model, tmp_path):
    sources = [model(4), model(1, dropout=0.1), model(2)]
    collected = collect(sources)
    (tmp_path / "all").mkdir()
    write(collected, sources[0], tmp_path / "all")
    pipeline = load(tmp_path / "all")
    assert pipeline.fusion_factors == (1, 2, 4)
    images = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        for factor in (1, 2, 4):
            found = pipeline.network(images, 5, fusion=factor).sample
            torch.testing.assert_close(found, network(factor).eval()(images, 5).sample)


def test_a_policy_is_kept_and_weights_keep_their_type(model, tmp_path):
    sources = [model(1, dtype=torch.float16), model(2)]
    (tmp_path / "all").mkdir()
    write(collect(sources, "2:0.75,1:0.25"), sources[0], tmp_path / "all")
    loaded = FuseBatchUNet2DModel.from_pretrained(tmp_path / "all" / "unet")
    assert loaded.config.policy == [[2, 0.75], [1, 0.25]]
    assert collect(sources).dtype == torch.float16


def test_latent_models_need_the_same_autoencoder(tmp_path):
    torch.manual_seed(0)
    with torch.no_grad():
        first, second = quantised_autoencoder(), quantised_autoencoder()
    sources = []
    for factor, vqvae in ((1, first), (2, first), (4, second)):
        sources.append(tmp_path / f"latent{factor}")
        LDMPipeline(vqvae, network(factor), DDIMScheduler()).save_pretrained(sources[-1])
    assert collect(sources[:2]).factors == (1, 2)
    with pytest.raises(ModelError, match="'vqvae' of latent1 is not that of latent4"):
        collect([sources[0], sources[2]])


def test_models_that_do_not_belong_together_are_refused(model):
    first = model(1)
    for other, words in (
        (model(2, block_out_channels=(8, 32)), r"block_out_channels: \[8, 16\] and \[8, 32\]"),
        (model(2, name="betas", scheduler=DDPMScheduler(beta_end=0.1)), "solvers of k1 and betas differ in beta_end"),
        (model(1, name="again"), "k1 and again both have a network for K = 1"),
    ):
        with pytest.raises(ModelError, match=words):
            collect([first, other])
    with pytest.raises(ModelError, match=r"kernels of the networks differ: \[3, 5\]"):
        collect([model(2), model(4, kernel_size=5)])
    with pytest.raises(PlanError, match="K=4"):
        collect([first, model(2)], "4:0.5,1:0.5")
    with pytest.raises(ModelError, match="no model"):
        collect([])


def test_a_transformer_has_no_place(model, tmp_path):
    torch.manual_seed(0)
    with torch.no_grad():
        DiTPipeline(dit_transformer(), autoencoder(), DDIMScheduler()).save_pretrained(tmp_path / "dit")
    with pytest.raises(UnsupportedModelError, match="UNet2DModel"):
        collect([model(1), tmp_path / "dit"])


def test_a_collection_can_be_collected_again(model, tmp_path):
    sources = [model(1), model(2)]
    (tmp_path / "two").mkdir()
    write(collect(sources), sources[0], tmp_path / "two")
    assert collect([tmp_path / "two", model(4)]).factors == (1, 2, 4)
    assert json.loads((tmp_path / "two" / "model_index.json").read_text())["unet"][0] == "headrace"


def test_a_stable_diffusion_becomes_one_whose_fused_networks_start_from_its_own(tiny_model, tmp_path):
    source, folder = tiny_model("sd1"), tmp_path / "fused"
    folder.mkdir()
    write(collect([source], untrained=[4, 2]), source, folder)
    plain, pipeline = load(source).network, load(folder)
    assert pipeline.family == "stable diffusion"
    assert pipeline.fusion_factors == (1, 2, 4)
    assert pipeline.network.config.policy == [[1, 1.0]]  # until they are trained
    index = json.loads((folder / "model_index.json").read_text())
    assert index["unet"] == ["headrace", "FuseBatchUNet2DConditionModel"]
    for factor in (2, 4):
        body = pipeline.network.networks[str(factor)].body
        assert body.mid_block.resnets[0].conv1.weight.equal(plain.mid_block.resnets[0].conv1.weight)
    latents, text = torch.randn(4, 4, 8, 8), torch.randn(4, 12, 16)
    with torch.inference_mode():
        assert pipeline.network(latents, 5, text).sample.equal(plain(latents, 5, text).sample)
    assert collect([folder]).factors == (1, 2, 4)


def test_text_models_need_the_same_text_encoder(tiny_model, tmp_path):
    source, other = tiny_model("sd1"), tmp_path / "other"
    other.mkdir()
    write(FuseBatchUNet2DConditionModel([2], collect([source]).config["unet"]), source, other)
    assert collect([source, other]).factors == (1, 2)
    encoder = CLIPTextModel.from_pretrained(source / "text_encoder", dtype=torch.float16)
    encoder.save_pretrained(other / "text_encoder")
    assert collect([source, other]).factors == (1, 2)
    torch.manual_seed(5)
    clip_text_model().save_pretrained(other / "text_encoder")
    with pytest.raises(ModelError, match="'text_encoder' of sd1 is not that of other"):
        collect([source, other])


def test_solvers_of_other_classes_may_have_one_noise(model):
    assert collect([model(1), model(2, scheduler=DDIMScheduler())]).factors == (1, 2)
    with pytest.raises(ModelError, match="prediction_type: 'epsilon' and 'v_prediction'"):
        collect([model(1), model(4, scheduler=DDIMScheduler(prediction_type="v_prediction"))])


def test_networks_to_be_trained_need_one_to_start_from(model, tiny_model):
    with pytest.raises(ModelError, match="K = 4 starts from that of K = 1, and no model has one"):
        collect([model(2)], untrained=[4])
    with pytest.raises(ModelError, match=r"\[1, 2, 2\] name one twice"):
        collect([model(1), model(2)], untrained=[2])
    with pytest.raises(ModelError, match=r"\[0, 1\] are not numbers of images"):
        collect([model(1)], untrained=[0])
    with pytest.raises(ModelError, match="time_cond_proj_dim = 32 cannot be fused"):
        collect([tiny_model("lcm")], untrained=[2])
    half = collect([model(1, dtype=torch.float16)], "2:0.5,1:0.5", untrained=[2])
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}
    assert half.config.policy == [[2, 0.5], [1, 0.5]]
