"""Folders that cannot be loaded: each one a typed error that names the file or value and the remedy."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.errors import CorruptModelError, ModelNotFoundError, UnsafeWeightsError, UnsupportedModelError
from headrace.models.pipelines.folder import inspect
from headrace.models.pipelines.loading import load

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model("sd1"), tmp_path / "mine")


def refused(error, folder, *words):
    """Loading raises exactly this error; its message has all the words and it has a remedy."""
    with pytest.raises(error) as caught:
        load(folder)
    assert type(caught.value) is error
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def edit(folder, **values):
    file = folder / "model_index.json"
    content = json.loads(file.read_text())
    for key, value in values.items():
        if value is KeyError:
            del content[key]
        else:
            content[key] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name", ["no-such-model", "/no/such/folder", "~nobody-of-this-name/model", "", "a\0b", "x" * 5000]
)
def test_unknown_names(name):
    refused(ModelNotFoundError, name, name[:50] if "\0" not in name else "a", "diffusers folder")


def test_a_single_file(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    refused(UnsupportedModelError, file, "model.safetensors", "single file", "save_pretrained")


def test_a_folder_without_an_index(tmp_path):
    refused(UnsupportedModelError, tmp_path, str(tmp_path), "model_index.json")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe\x00", b"{}", b""])
def test_a_broken_index(folder, content):
    (folder / "model_index.json").write_bytes(content)
    refused(CorruptModelError, folder, "model_index.json")


@pytest.mark.parametrize("name", ["FluxPipeline", "NoSuchPipeline", ["pipeline", "Mine"], None])
def test_families_without_an_adapter(folder, name):
    edit(folder, _class_name=name)
    refused(UnsupportedModelError, folder, str(name), "StableDiffusionPipeline")


@pytest.mark.parametrize("entry", [["diffusers"], ["diffusers", 3], ["a", "b", "c"], [None, "UNet2DConditionModel"]])
def test_a_part_that_is_no_pair(folder, entry):
    edit(folder, unet=entry)
    refused(CorruptModelError, folder, "unet", "[library, class]")


def test_parts_of_other_libraries_are_refused_and_their_code_never_runs(folder, tmp_path):
    witness = tmp_path / "ran"
    code = f"open({str(witness)!r}, 'w')\nclass Mine:\n    pass\n"
    for place in (folder / "mine.py", folder / "unet" / "mine.py", folder / "pipeline.py"):
        place.write_text(code)
    edit(folder, unet=["mine", "Mine"])
    refused(UnsupportedModelError, folder, "'unet'", "'mine'", "never run")
    assert not witness.exists()


def test_code_named_by_a_configuration_never_runs(folder, tmp_path):
    witness = tmp_path / "ran"
    (folder / "text_encoder" / "mine.py").write_text(f"open({str(witness)!r}, 'w')\nclass Mine:\n    pass\n")
    (folder / "mine.py").write_text(f"open({str(witness)!r}, 'w')\n")
    for file in (folder / "text_encoder" / "config.json", folder / "tokenizer" / "tokenizer_config.json"):
        content = json.loads(file.read_text())
        content["auto_map"] = {"AutoModel": "mine.Mine", "AutoTokenizer": "mine.Mine", "AutoConfig": "mine.Mine"}
        file.write_text(json.dumps(content))
    load(folder)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("part", "class_name"),
    [("unet", "NoSuchModel"), ("vae", "NoSuchModel"), ("scheduler", "NoSuchScheduler"), ("unet", "UNet2DModel")],
)
def test_unknown_classes(folder, part, class_name):
    edit(folder, **{part: ["diffusers", class_name]})
    refused(UnsupportedModelError, folder, class_name)


def test_a_function_of_a_trusted_library_is_no_part(folder):
    edit(folder, vae=["transformers", "set_seed"])
    refused(UnsupportedModelError, folder, "'vae'", "set_seed")


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "scheduler"])
def test_parts_that_the_index_leaves_out(folder, part):
    edit(folder, **{part: KeyError})
    refused(CorruptModelError, folder, f"no {part}", "StableDiffusionPipeline")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_folder(folder, part):
    shutil.rmtree(folder / part)
    refused(CorruptModelError, folder, part)


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"])
@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_broken_configurations(folder, file, content):
    (folder / file).write_text(content)
    refused(CorruptModelError, folder, file)


def test_a_configuration_that_makes_no_network(folder):
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "block_out_channels": [16]}))
    refused(CorruptModelError, folder, "unet", "block_out_channels")


@pytest.mark.parametrize("file", ["tokenizer/merges.txt", "tokenizer/vocab.json"])
def test_half_a_tokenizer(folder, file):
    (folder / file).unlink()
    refused(CorruptModelError, folder, "tokenizer")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_are_refused_and_never_opened(folder, name):
    (folder / UNET).unlink()
    (folder / "unet" / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    refused(UnsafeWeightsError, folder, name, "save_pretrained")


def test_pickled_weights_beside_safetensors_are_left_alone(folder):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not a pickle")
    assert load(folder).name == "mine"


def test_missing_weights(folder):
    (folder / UNET).unlink()
    refused(CorruptModelError, folder, "unet", "no weights")


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_weights_cut_short(folder, keep):
    whole = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(whole[:keep])
    refused(CorruptModelError, folder, UNET, "cut short")
    with pytest.raises(CorruptModelError):
        inspect(folder)


def test_weights_that_are_no_safetensors(folder):
    (folder / UNET).write_bytes(b"\x80\x04garbage" * 100)
    refused(CorruptModelError, folder, UNET)


@pytest.mark.parametrize("file", [UNET, TEXT, "vae/diffusion_pytorch_model.safetensors"])
def test_a_missing_tensor_is_not_filled_with_random_numbers(folder, file):
    tensors = load_file(folder / file)
    lost = sorted(tensors)[len(tensors) // 2]
    del tensors[lost]
    save_file(tensors, folder / file, metadata={"format": "pt"})
    refused(CorruptModelError, folder, file.split("/")[0], lost)


@pytest.mark.parametrize("file", [UNET, TEXT])
def test_a_tensor_of_another_shape(folder, file):
    tensors = load_file(folder / file)
    tensors[sorted(tensors)[0]] = torch.zeros(3, 3)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    refused(CorruptModelError, folder, file.split("/")[0])


def test_weights_of_another_model(folder, tiny_model):
    shutil.copy(tiny_model("sd1") / TEXT, folder / UNET)
    refused(CorruptModelError, folder, "unet", "UNet2DConditionModel")
