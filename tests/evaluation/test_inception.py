"""The FID Inception network and its weights files, with random weights."""

import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import avg_pool2d

from headrace.errors import CorruptModelError, ModelNotFoundError, UnsafeWeightsError
from headrace.evaluation.extractors.inception import _BLOCKS, Inception, resize_as_tensorflow_1
from headrace.evaluation.extractors.inception_network import FidInception


@pytest.fixture(scope="module")
def weights():
    """Random ones that keep the signal's size from layer to layer."""
    torch.manual_seed(0)
    network = FidInception()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return dict(network.state_dict())


@pytest.fixture(scope="module")
def weights_file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_file(weights, path)
    return path


def pictures(count=2, height=20, width=24):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def test_parameters_are_those_of_the_published_network(weights):
    """torchvision counts 23,834,568 without the auxiliary head, and 2,049,000 of them are its layer of 1000 classes."""
    learnt = [tensor for name, tensor in weights.items() if "running" not in name and "tracked" not in name]
    assert sum(tensor.numel() for tensor in learnt) == 23_834_568 - 2_049_000 + 2048 * 1008 + 1008


def test_features_of_each_picture_alone_and_together(weights_file):
    extractor = Inception(weights_file)
    together, alone = extractor(pictures()), extractor(pictures()[1:])
    assert together.pooled.shape == (2, 2048)
    assert together.spatial.shape == (2, 7 * 17 * 17)
    assert together.logits.shape == (2, 1008)
    for name in ("pooled", "spatial", "logits"):
        torch.testing.assert_close(getattr(together, name)[1:], getattr(alone, name), rtol=1e-3, atol=1e-4)
    assert (together.pooled[0] - together.pooled[1]).abs().max() > 1e-4


def test_logits_leave_the_bias_out(weights_file, weights):
    features = Inception(weights_file)(pictures())
    torch.testing.assert_close(features.logits, features.pooled @ weights["fc.weight"].T)


def test_padding_is_not_counted_by_the_means_and_the_last_block_takes_the_maximum(weights):
    network = FidInception().eval()
    network.load_state_dict(weights)
    taken = {}
    for name in ("Mixed_5b", "Mixed_7b", "Mixed_7c"):
        block = getattr(network, name)
        block.branch_pool.register_forward_pre_hook(lambda _, inputs, name=name: taken.update({name: inputs[0]}))
        block.register_forward_pre_hook(lambda _, inputs, name=name: taken.update({name + " input": inputs[0]}))
    with torch.no_grad():
        network(torch.rand(1, 3, 299, 299))
    for name in ("Mixed_5b", "Mixed_7b"):
        corner = taken[name + " input"][..., :2, :2].mean(dim=(2, 3))
        torch.testing.assert_close(taken[name][..., 0, 0], corner)
        inside = avg_pool2d(taken[name + " input"], 3, stride=1)
        torch.testing.assert_close(taken[name][..., 1:-1, 1:-1], inside)
    corner = taken["Mixed_7c input"][..., :2, :2].amax(dim=(2, 3))
    torch.testing.assert_close(taken["Mixed_7c"][..., 0, 0], corner)


def test_names_of_pytorch_fid_load_the_same_network(weights, weights_file, tmp_path):
    places = {layer: (block, place) for block, layers in enumerate(_BLOCKS) for place, layer in enumerate(layers)}
    renamed = {}
    for name, tensor in weights.items():
        layer, _, rest = name.partition(".")
        if layer != "fc":
            renamed[f"blocks.{places[layer][0]}.{places[layer][1]}.{rest}"] = tensor
    save_file(renamed, tmp_path / "blocks.safetensors")
    other = Inception(tmp_path / "blocks.safetensors")
    features = other(pictures())
    torch.testing.assert_close(features.pooled, Inception(weights_file)(pictures()).pooled)
    assert features.logits is None  # that file has no last layer
    assert other.digest != Inception(weights_file).digest


def test_resizing_reads_where_tensorflow_1_does():
    """A ramp of 4 pixels scaled to 6: positions i * 4/6, the last ones held at the edge."""
    ramp = torch.tensor([0.0, 3.0, 6.0, 9.0]).expand(1, 1, 4, 4)
    resized = resize_as_tensorflow_1(ramp, 6)
    torch.testing.assert_close(resized[0, 0, 0], torch.tensor([0.0, 2.0, 4.0, 6.0, 8.0, 9.0]))
    torch.testing.assert_close(resize_as_tensorflow_1(ramp.transpose(2, 3), 6), resized.transpose(2, 3))
    picture = pictures()
    assert torch.equal(resize_as_tensorflow_1(picture[:, :, :20, :20].float(), 20), picture[:, :, :20, :20].float())


def test_the_conversion_that_is_told_for_a_pickled_file_works(weights, weights_file, tmp_path):
    torch.save(weights, tmp_path / "pt_inception.pth")
    with pytest.raises(UnsafeWeightsError) as told:
        Inception(tmp_path / "pt_inception.pth")
    program = re.search(r'python -c "(.*)"', told.value.remedy)[1]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=200)
    converted = Inception(tmp_path / "inception.safetensors")
    torch.testing.assert_close(converted(pictures()).pooled, Inception(weights_file)(pictures()).pooled)


def test_files_that_are_not_it_are_refused(weights, tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"nothing\.safetensors"):
        Inception(tmp_path / "nothing.safetensors")
    (tmp_path / "inception.pth").write_bytes(b"\x80\x04")
    with pytest.raises(UnsafeWeightsError, match="pickled"):
        Inception(tmp_path / "inception.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(CorruptModelError, match="cannot be read"):
        Inception(tmp_path / "cut.safetensors")
    imagenet = {**weights, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    save_file(imagenet, tmp_path / "imagenet.safetensors")
    with pytest.raises(CorruptModelError, match="1000 classes"):
        Inception(tmp_path / "imagenet.safetensors")
    part = {name: tensor for name, tensor in weights.items() if not name.startswith("Mixed_6d")}
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(CorruptModelError, match=r"Mixed_6d\.branch1x1\.conv\.weight is missing"):
        Inception(tmp_path / "part.safetensors")
