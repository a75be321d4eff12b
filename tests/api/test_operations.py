"""Health, metrics, logs, models, the store of pictures."""

import asyncio

import pytest
from fake_service import FakeService
from http_app import GENERATIONS, Lines, call, calling
from prometheus_client.parser import text_string_to_metric_families

from headrace.api.app import create_app
from headrace.api.picture_store import PictureStore
from headrace.api.settings import ApiSettings
from headrace.errors import BusyError, NotReadyError


def story(service: FakeService, *requests: dict, settings: ApiSettings | None = None, headers: dict | None = None):
    """(answers, metrics by name and labels, what was logged) of some requests for pictures."""
    lines = Lines()

    async def all_of_it():
        async with calling(service, settings, lines) as http:
            answers = [await http.post(GENERATIONS, json=one, headers=headers) for one in requests]
            return answers, (await http.get("/metrics")).text

    answers, text = asyncio.run(all_of_it())
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return answers, samples, lines.records


@pytest.mark.parametrize(
    ("state", "status"), [("ready", 200), ("restarting", 200), ("draining", 503), ("starting", 503), ("stopped", 503)]
)
def test_ready_is_who_takes_requests(state, status):
    service = FakeService()
    service.state = state
    assert call(service, "GET", "/readyz").status_code == status
    assert call(service, "GET", "/healthz").json() == {"status": "ok"}


def test_before_the_model_is_loaded_it_lives_and_is_not_ready():
    service = FakeService()
    service.not_ready = NotReadyError("the engine loads its model")
    assert call(service, "GET", "/healthz").status_code == 200
    assert call(service, "GET", "/readyz").json()["error"]["code"] == "starting"
    assert call(service, "GET", "/v1/models").headers["retry-after"] == "5"


def test_models_as_clients_know_them():
    service = FakeService()
    listed = call(service, "GET", "/v1/models").json()
    assert listed["object"] == "list"
    assert listed["data"] == [call(service, "GET", "/v1/models/fake").json()]
    model = listed["data"][0]
    assert (model["id"], model["object"], model["created"]) == ("fake", "model", 1_700_000_000)
    assert [one["name"] for one in model["headrace"]["accelerations"]] == ["fast", "careful"]
    assert call(service, "GET", "/v1/models/other").status_code == 404


def test_metrics_count_what_happened():
    service = FakeService()
    stream = {"prompt": "x", "stream": True, "partial_images": 2}
    _, seen, _ = story(service, {"prompt": "x", "n": 2}, stream, {"prompt": "x", "n": 0})
    assert seen["headrace_picture_seconds_count",] == 3
    assert seen["headrace_queue_wait_seconds_count",] == seen["headrace_decode_seconds_count",] == 3
    assert seen["headrace_encode_seconds_count",] == 3
    assert seen["headrace_first_preview_seconds_count",] == 1
    assert seen["headrace_batch_rows_count", "all"] == seen["headrace_rows_total",] == 3
    assert seen["headrace_unet_seconds_total",] == pytest.approx(0.045)
    assert seen["headrace_vae_seconds_total",] == pytest.approx(0.015)
    assert seen["headrace_controller", "chunks"] == 4
    assert seen["headrace_refusals_total", "invalid_value"] == 1
    assert seen["headrace_http_requests_total", GENERATIONS, "200", "POST"] == 2
    assert seen["headrace_http_seconds_count", GENERATIONS] == 3
    assert (seen["headrace_ready",], seen["headrace_accepted_total",], seen["headrace_queue_length",]) == (1, 3, 0)
    assert seen["headrace_engine_memory_bytes",] == 1 << 20


def test_refusals_are_counted_by_reason():
    service = FakeService()
    service.refuse = BusyError("full", 2.0)
    _, seen, _ = story(service, {"prompt": "x"}, {"prompt": "x"})
    assert seen["headrace_refusals_total", "busy"] == 2


def test_a_request_is_one_line_without_its_prompt_or_its_users_name():
    asked = {"prompt": "a secret wish", "user": "jane@example.com", "n": 2}
    (answer,), _, lines = story(FakeService(), asked, headers={"X-Request-ID": "trace-1"})
    assert answer.headers["x-request-id"] == "trace-1"
    assert int(answer.headers["openai-processing-ms"]) >= 0
    (line,) = lines
    assert (line["request_id"], line["status"], line["path"], line["rows"]) == ("trace-1", 200, GENERATIONS, 40)
    assert line["tickets"] == ["t1", "t2"]
    assert line["ms"] > line["times_ms"]["encoding"] > 0
    assert len(line["user"]) == 16
    assert "jane" not in str(line)
    assert "secret" not in str(line)


def test_prompts_are_logged_where_the_operator_asks_for_it():
    _, _, (line,) = story(FakeService(), {"prompt": "a wish"}, settings=ApiSettings(log_prompts=True))
    assert line["prompt"] == "a wish"


def test_a_path_writes_no_lines_of_its_own_into_the_log():
    lines = Lines()

    async def asked():
        async with calling(FakeService(), lines=lines) as http:
            await http.get("/v1/x%0Arequest%20status=200" + "y" * 500)

    asyncio.run(asked())
    (line,) = lines.records
    assert line["path"].startswith("/v1/x%0Arequest%20status%3D200")
    assert len(line["path"]) < 300


def test_the_documentation_says_where_a_key_is_asked_for():
    app = create_app(FakeService(), ApiSettings(api_keys=("k",)))
    paths = app.openapi()["paths"]
    assert paths[GENERATIONS]["post"]["security"]
    assert "security" not in paths["/healthz"]["get"]


@pytest.mark.parametrize("given", ["two words", "x" * 101, "<script>"])
def test_a_request_id_that_is_not_sane_is_replaced(given):
    (answer,), _, _ = story(FakeService(), {"prompt": "x"}, headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"].startswith("req_")


def test_the_store_is_bounded_in_number_bytes_and_time():
    now = [0.0]
    store = PictureStore(3, 100, 10.0, clock=lambda: now[0])
    names = [store.put(b"x" * 30, "image/png") for _ in range(4)]
    assert [store.get(name) is not None for name in names] == [False, True, True, True]
    large = store.put(b"x" * 60, "image/png")
    assert [store.get(name) is not None for name in (*names, large)] == [False, False, False, True, True]
    now[0] = 11.0
    assert store.get(large) is None
    assert (len(store), store.bytes) == (0, 0)
