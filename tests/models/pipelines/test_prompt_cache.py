import pytest
import torch

from headrace.models.pipelines.loading import load
from headrace.models.pipelines.prompt_cache import PromptCache
from headrace.request import Request


class Encoder:
    """Encodes a prompt as its length, and keeps what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompts):
        self.calls.append(list(prompts))
        return {"length": torch.tensor([[float(len(prompt))] * 4 for prompt in prompts])}


def test_distinct_prompts_are_encoded_in_one_call_and_only_once():
    encoder = Encoder()
    cache = PromptCache(encoder)
    found = cache.encode(["red", "", "apple", "red"])
    assert encoder.calls == [["red", "", "apple"]]
    assert {prompt: entry["length"].tolist() for prompt, entry in found.items()} == {
        "red": [3.0] * 4,
        "": [0.0] * 4,
        "apple": [5.0] * 4,
    }
    again = cache.encode(["apple", "red"])
    assert len(encoder.calls) == 1
    assert torch.equal(again["apple"]["length"], found["apple"]["length"])
    cache.encode(["red", "whale"])
    assert encoder.calls[1:] == [["whale"]]


def test_calls_are_bounded():
    encoder = Encoder()
    PromptCache(encoder, batch=3).encode([str(number) for number in range(8)])
    assert [len(call) for call in encoder.calls] == [3, 3, 2]


def test_the_least_recently_used_go_first():
    encoder = Encoder()
    cache = PromptCache(encoder, max_bytes=3 * 16)
    cache.encode(["a", "b", "c"])
    cache.encode(["a"])
    cache.encode(["d"])
    encoder.calls.clear()
    cache.encode(["a", "c", "d"])
    assert encoder.calls == []
    cache.encode(["b"])
    assert encoder.calls == [["b"]]


def test_more_prompts_at_once_than_the_cache_holds_are_all_returned():
    encoder = Encoder()
    cache = PromptCache(encoder, max_bytes=2 * 16, batch=4)
    prompts = [str(number) for number in range(10)]
    assert list(cache.encode(prompts)) == prompts
    encoder.calls.clear()
    cache.encode(prompts[-2:])
    assert encoder.calls == []


def test_an_entry_holds_no_other_prompts_memory():
    found = PromptCache(Encoder()).encode(["red", "green"])
    assert found["red"]["length"].untyped_storage().nbytes() == 16


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "pixart"])
def test_a_family_encodes_a_crowd_in_one_call_of_its_text_encoder(tiny_model, kind):
    pipeline = load(tiny_model(kind))
    calls = []
    pipeline.components.text_encoder.register_forward_hook(lambda *args: calls.append(args))
    requests = [Request(prompt=prompt, negative_prompt="grey") for prompt in ("red", "blue", "red")]
    first = pipeline.encode(requests)
    assert len(calls) == 1
    again = pipeline.encode(requests[::-1])
    assert len(calls) == 1
    for one, other in zip(first, again[::-1], strict=True):
        assert all(torch.equal(one.positive[name], other.positive[name]) for name in one.positive)
        assert all(torch.equal(one.negative[name], other.negative[name]) for name in one.negative)
    assert not torch.equal(first[0].positive["encoder_hidden_states"], first[1].positive["encoder_hidden_states"])


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "pixart"])
def test_a_batch_of_prompts_is_encoded_as_each_alone(tiny_model, tiny_pipeline, kind):
    requests = [Request(prompt=prompt) for prompt in ("red apple", "a blue whale, 3 of them", "x")]
    together = tiny_pipeline(kind).encode(requests)
    one_by_one = load(tiny_model(kind))
    for request, conditioning in zip(requests, together, strict=True):
        (alone,) = one_by_one.encode([request])
        assert alone.signature == conditioning.signature
        for name, tensor in alone.positive.items():
            torch.testing.assert_close(conditioning.positive[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_prompt_beyond_the_tokenizers_length_is_cut_as_diffusers_cuts_it(tiny_pipeline):
    pipeline = tiny_pipeline("sd1")
    (long,) = pipeline.encode([Request(prompt="red apple " * 900)])
    (short,) = pipeline.encode([Request(prompt="red")])
    assert long.signature == short.signature
