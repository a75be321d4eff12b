"""Folders with tiny random networks, in the formats that extractors read."""

import json

import torch
from safetensors.torch import save_file
from transformers import (
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
)

from headrace.evaluation.extractors.classifier_network import Classifier, ClassifierConfig
from tiny_models import clip_tokenizer

SIDE = 32


def build_clip(folder):
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 12, "pad_token_id": tokenizer.pad_token_id, **ends}
    body = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"image_size": SIDE, "patch_size": 8}
    body["initializer_factor"] = 5.0
    config = CLIPConfig(text_config={**body, **text}, vision_config={**body, **vision}, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)
    return folder


def build_dino(folder):
    torch.manual_seed(1)
    config = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=SIDE,
        patch_size=8,
        initializer_range=0.3,
    )
    Dinov2Model(config).save_pretrained(folder)
    processor = BitImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_center_crop=True
    )
    processor.save_pretrained(folder)
    return folder


def build_classifier(folder, classes=("cat", "dog", "ship")):
    torch.manual_seed(2)
    config = ClassifierConfig(
        model_type="headrace-classifier", data="made up", classes=classes, size=16, widths=(8, 16)
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    weights = {name: tensor.half() for name, tensor in Classifier(config).state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    assert json.loads((folder / "config.json").read_text())["size"] == 16
    return folder
