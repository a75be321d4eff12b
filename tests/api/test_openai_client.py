"""The official client, unchanged, over a real socket."""

import base64
import io
import threading
import time

import openai
import pytest
from fake_service import CLASSES, FakeService
from http_server import served
from PIL import Image

from headrace.api.settings import ApiSettings
from headrace.errors import BusyError, NumericalError


@pytest.fixture(scope="module")
def service():
    return FakeService()


@pytest.fixture(scope="module")
def client(service):
    settings = ApiSettings(api_keys=("a-key-for-tests",), quality={"low": "fast"})
    with served(service, settings) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key="a-key-for-tests", max_retries=0)


def size_of(b64_json):
    return Image.open(io.BytesIO(base64.b64decode(b64_json))).size


def test_pictures(client):
    answer = client.images.generate(
        model="fake", prompt="a red apple", n=2, size="64x32", quality="low", output_format="webp",
        output_compression=80, background="opaque", moderation="low", user="jane",
        extra_body={"seed": 5, "steps": 9, "negative_prompt": "blurry", "timeout_ms": 60_000, "priority": 1},
    )  # fmt: skip
    assert [size_of(one.b64_json) for one in answer.data] == [(64, 32)] * 2
    assert (answer.size, answer.quality, answer.output_format) == ("64x32", "low", "webp")
    assert (answer.usage.output_tokens, answer.usage.output_tokens_details.image_tokens) == (18, 18)
    assert [one.headrace["seed"] for one in answer.data] == [5, 6]
    assert answer.data[0].headrace["acceleration"] == "fast"
    type(answer).model_validate(answer.model_dump())  # every field as its types say


def test_addresses(client):
    answer = client.images.generate(prompt="x", response_format="url")
    file = openai.DefaultHttpxClient().get(answer.data[0].url)
    assert Image.open(io.BytesIO(file.content)).size == (48, 32)


def test_a_stream(client):
    with client.images.generate(prompt="x", stream=True, partial_images=3, size="auto") as stream:
        events = list(stream)
    assert [one.type for one in events] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [one.partial_image_index for one in events[:3]] == [0, 1, 2]
    assert all(size_of(one.b64_json) == (48, 32) for one in events)
    assert events[3].usage.total_tokens == 20
    for one in events:
        type(one).model_validate(one.model_dump())


def test_models(client):
    (model,) = client.models.list()
    assert client.models.retrieve(model.id) == model
    assert (model.id, model.object, model.owned_by) == ("fake", "model", "headrace")


def test_errors_are_the_clients_own(client, service):
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.images.generate(prompt="x", size="17x17")
    assert (refused.value.param, refused.value.code) == ("size", "invalid_value")
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.images.generate(prompt="x", model="dall-e-3")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").images.generate(prompt="x")
    with pytest.raises(openai.NotFoundError, match="not offered"):
        client.images.edit(image=b"x", prompt="x")
    service.fail = lambda wish: NumericalError("its latents are NaN")
    with pytest.raises(openai.APIError, match="NaN"):
        list(client.images.generate(prompt="x", stream=True))
    service.fail = lambda wish: None


def test_a_busy_server_is_asked_again_when_it_said(client, service):
    service.refuse = BusyError("full", 0.2)
    threading.Timer(0.3, setattr, (service, "refuse", None)).start()
    begun = time.monotonic()
    assert client.with_options(max_retries=2).images.generate(prompt="x").data
    assert 0.9 < time.monotonic() - begun < 5


def test_a_client_that_hangs_up_is_noticed(client, service):
    service.hold = True
    before = len(service.dropped)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).images.generate(prompt="x", n=2)
    until = time.monotonic() + 5
    while len(service.dropped) < before + 2 and time.monotonic() < until:
        time.sleep(0.01)
    service.hold = False
    assert len(service.dropped) == before + 2


def test_a_class_is_asked_for_by_prompt():
    service = FakeService(CLASSES)
    with served(service) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="unused") as client:
        client.images.generate(prompt="3")
    assert service.seen[0].request.class_label == 3
