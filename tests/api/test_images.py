"""Pictures over HTTP: what comes back, and what is refused with which field."""

import asyncio
import base64
import io

import pytest
from fake_service import CARD, CLASSES, UNCONDITIONAL, FakeService
from http_app import GENERATIONS, ask, calling, events_of
from PIL import Image

from headrace.api.settings import ApiSettings
from headrace.errors import ExecutionError, NumericalError
from headrace.pictures.labelled import read_label


def opened(picture: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture["b64_json"])))


def test_pictures_have_the_seeds_asked_for_and_say_how_they_were_made():
    answer = ask(FakeService(), prompt="a red apple", n=3, seed=40, size="64x32", steps=7)
    body = answer.json()
    assert answer.status_code == 200
    assert [picture["headrace"]["seed"] for picture in body["data"]] == [40, 41, 42]
    assert [opened(picture).getpixel((0, 0))[0] for picture in body["data"]] == [40, 41, 42]
    assert body["size"] == "64x32"
    assert opened(body["data"][0]).size == (64, 32)
    assert body["usage"]["output_tokens"] == body["usage"]["total_tokens"] == 21
    first = body["data"][0]["headrace"]
    assert (first["steps"], first["solver"], first["rows"], first["acceleration"]) == (7, "ddim", 7, None)
    assert first["times_ms"]["total"] >= first["times_ms"]["encoding"] > 0


def test_without_a_seed_pictures_differ_and_say_theirs():
    service = FakeService()
    seeds = [ask(service, prompt="x").json()["data"][0]["headrace"]["seed"] for _ in range(3)]
    assert len(set(seeds)) == 3


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_files_are_of_the_format_and_carry_their_settings(kind):
    body = ask(FakeService(), prompt="Äpfel", output_format=kind, seed=3).json()
    data = base64.b64decode(body["data"][0]["b64_json"])
    assert Image.open(io.BytesIO(data)).format == kind.upper()
    label = read_label(io.BytesIO(data))
    assert (label["prompt"], label["seed"], label["model"], label["steps"]) == ("Äpfel", 3, "fake", 20)


def test_a_long_prompt_does_not_keep_a_jpeg_from_being_written():
    body = ask(FakeService(), prompt="\u0416" * 10_000, negative_prompt="\U0001f34e" * 10_000, output_format="jpeg")
    label = read_label(io.BytesIO(base64.b64decode(body.json()["data"][0]["b64_json"])))
    assert "negative_prompt" not in label
    assert label["prompt"] == "\u0416" * 10_000


def test_addresses_of_pictures_lead_to_them_for_a_while():
    async def story():
        async with calling(FakeService(), ApiSettings(stored_pictures=2)) as http:
            answer = await http.post(GENERATIONS, json={"prompt": "x", "n": 3, "response_format": "url"})
            addresses = [picture["url"] for picture in answer.json()["data"]]
            return addresses, [await http.get(address) for address in addresses]

    addresses, found = asyncio.run(story())
    assert len({*addresses}) == 3
    assert all(len(one.rpartition("/")[2]) == 32 for one in addresses)
    assert [one.status_code for one in found] == [404, 200, 200]
    assert found[1].headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(found[1].content)).size == (48, 32)


def test_a_stream_has_previews_and_then_each_picture_with_usage():
    answer = ask(FakeService(), prompt="x", n=2, stream=True, partial_images=2, steps=9, quality="hd", seed=1)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    partial = [one for one in events if one["type"] == "image_generation.partial_image"]
    done = [one for one in events if one["type"] == "image_generation.completed"]
    assert [one["partial_image_index"] for one in partial if one["headrace"]["picture"] == 0] == [0, 1]
    assert sorted(one["headrace"]["seed"] for one in done) == [1, 2]
    assert all(one["usage"]["output_tokens"] == 9 for one in done)
    assert all(one["quality"] == "high" and one["size"] == "48x32" for one in events)
    assert [opened(one).size for one in events] == [(48, 32)] * 6


def test_a_failure_before_acceptance_is_a_status_and_one_after_it_an_event():
    service = FakeService()
    service.reject = lambda wish: ExecutionError("the text encoder raised", "Shorten the prompt")
    assert ask(service, prompt="x", stream=True).status_code == 500
    service.reject = lambda wish: None
    service.fail = lambda wish: NumericalError("its latents are NaN", "Use fewer steps")
    answer = ask(service, prompt="x", stream=True, partial_images=1)
    assert answer.status_code == 200
    assert events_of(answer.text)[-1]["error"]["code"] == "picture_failed"


def test_one_failing_picture_fails_its_request_and_no_other():
    service = FakeService(hold=True)
    service.fail = lambda wish: NumericalError("its latents are NaN") if wish.request.seed == 11 else None

    async def story():
        async with calling(service) as http:
            bad = asyncio.create_task(http.post(GENERATIONS, json={"prompt": "x", "n": 3, "seed": 10}))
            good = asyncio.create_task(http.post(GENERATIONS, json={"prompt": "y", "seed": 50}))
            while len(service.taken) < 4:
                await asyncio.sleep(0.005)
            failing = next(ticket for ticket, one in service.taken.items() if one.wish.request.seed == 11)
            service.release(failing)
            first = await bad
            dropped = len(service.dropped)
            service.release()
            return first, dropped, await good

    bad, dropped, good = asyncio.run(story())
    assert bad.status_code == 500
    assert bad.headers["x-should-retry"] == "false"
    assert dropped == 2
    assert good.status_code == 200


def test_a_tier_stands_for_the_acceleration_that_the_operator_named():
    service, settings = FakeService(), ApiSettings(quality={"low": "fast", "auto": "careful"})
    asked = [{"quality": "low"}, {"quality": "high"}, {}, {"quality": "low", "acceleration": "careful"}]
    for one in asked:
        assert ask(service, settings, prompt="x", **one).status_code == 200
    assert [wish.acceleration for wish in service.seen] == ["fast", "none", "careful", "careful"]


def test_an_acceleration_fills_what_is_left_open():
    service = FakeService()
    ask(service, prompt="x", acceleration="fast")
    ask(service, prompt="x", acceleration="fast", steps=30)
    ask(service, prompt="x", acceleration="none")
    assert [(one.request.steps, one.request.solver) for one in service.seen] == [
        (12, "dpm++2m"), (30, "dpm++2m"), (20, None),
    ]  # fmt: skip


def test_conditions_of_a_wish_are_passed_on():
    service = FakeService()
    ask(service, prompt="x", priority=7, timeout_ms=1500, negative_prompt="blurry", guidance_scale=3, solver="heun")
    wish = service.seen[0]
    assert (wish.priority, wish.timeout_s, wish.previews) == (7, 1.5, 0)
    assert (wish.request.negative_prompt, wish.request.guidance_scale, wish.request.solver) == ("blurry", 3.0, "heun")


@pytest.mark.parametrize(
    ("body", "label"), [({"prompt": "7"}, 7), ({"class_label": 0}, 0), ({"prompt": " Cat ", "class_label": 3}, 3)]
)
def test_a_class_is_a_number_or_a_name(body, label):
    from dataclasses import replace

    names = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    service = FakeService(replace(CLASSES, class_names=names))
    assert ask(service, **body).status_code == 200
    assert (service.seen[0].request.class_label, service.seen[0].request.prompt) == (label, None)


def test_a_model_without_conditioning_takes_an_empty_prompt_alone():
    service = FakeService(UNCONDITIONAL)
    assert ask(service, prompt="").status_code == 200
    assert ask(service).status_code == 200
    assert ask(service, prompt="a cat").json()["error"]["param"] == "prompt"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "x" * 10_001}, "prompt"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": "x", "n": 11}, "n"),
        ({"prompt": "x", "n": True}, "n"),
        ({"prompt": "x", "size": "33x32"}, "size"),
        ({"prompt": "x", "size": "big"}, "size"),
        ({"prompt": "x", "size": "0x8"}, "size"),
        ({"prompt": "x", "size": "99999x99999"}, "size"),
        ({"prompt": "x", "steps": 251}, "steps"),
        ({"prompt": "x", "seed": -1}, "seed"),
        ({"prompt": "x", "seed": 2**63 - 1, "n": 2}, "seed"),
        ({"prompt": "x", "solver": "nix"}, "solver"),
        ({"prompt": "x", "acceleration": "nix"}, "acceleration"),
        ({"prompt": "x", "background": "transparent"}, "background"),
        ({"prompt": "x", "output_format": "gif"}, "output_format"),
        ({"prompt": "x", "output_compression": 50}, "output_compression"),
        ({"prompt": "x", "partial_images": 2}, "partial_images"),
        ({"prompt": "x", "partial_images": 4, "stream": True}, "partial_images"),
        ({"prompt": "x", "stream": True, "response_format": "url"}, "response_format"),
        ({"prompt": "x", "class_label": 2}, "class_label"),
        ({"prompt": "x", "image_url": "file:///etc/passwd"}, "image_url"),
        ({"prompt": "x", "svg": {"model": "x"}}, "svg"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(body, param):
    service = FakeService()
    answer = ask(service, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (422, param, "invalid_request_error")
    assert error["message"]
    assert not service.seen


def test_models_are_told_of_and_others_are_not_here():
    settings = ApiSettings(aliases=("gpt-image-2",))
    assert ask(FakeService(), settings, prompt="x", model="gpt-image-2").status_code == 200
    assert ask(FakeService(), settings, prompt="x", model=CARD.name).status_code == 200
    missing = ask(FakeService(), settings, prompt="x", model="sdxl")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_a_model_that_makes_several_pictures_of_one_request_is_asked_less_often():
    from dataclasses import replace

    service = FakeService(replace(CARD, pictures=4))
    body = ask(service, prompt="x", n=6, seed=2).json()
    assert len(service.seen) == 2
    assert len(body["data"]) == 6
    assert [one["headrace"]["seed"] for one in body["data"]] == [2, 2, 2, 2, 3, 3]
    assert [one["headrace"]["picture"] for one in body["data"]] == [0, 1, 2, 3, 4, 5]
    assert body["usage"]["output_tokens"] == 40
