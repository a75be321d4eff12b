"""Batches through the official client, over a fake service."""

import base64
import io
import json
import threading
import time
from dataclasses import replace

import httpx
import openai
import pytest
from batch_server import ended, envelope, lines, read, served, submitted, wait_for
from fake_service import CARD, FakeService
from PIL import Image

from headrace.api.batches.limits import BatchLimits
from headrace.errors import BusyError, ExecutionError

URL = "/v1/images/generations"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for the tests that leave nothing behind that matters to others."""
    service = FakeService()
    with served(service, tmp_path_factory.mktemp("data")) as client:
        yield service, client


def test_the_official_client_uploads_works_and_fetches(server):
    _, client = server
    content = lines(envelope("a", seed=3), envelope("b", seed=4, n=2, output_format="webp"), envelope("c"))
    batch = submitted(client, content, metadata={"name": "night"})
    assert batch.status == "validating"
    batch = ended(client, batch.id)
    assert batch.status == "completed"
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (3, 3, 0)
    assert batch.metadata == {"name": "night"}
    assert batch.error_file_id is None
    assert batch.usage.output_tokens == 4 * 20
    answers = read(client, batch.output_file_id)
    assert [one["custom_id"] for one in answers] == ["a", "b", "c"]
    assert [len(one["response"]["body"]["data"]) for one in answers] == [1, 2, 1]
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in answers)
    picture = answers[1]["response"]["body"]["data"][1]
    image = Image.open(io.BytesIO(base64.b64decode(picture["b64_json"])))
    assert (image.format, image.size) == ("WEBP", (48, 32))
    assert picture["headrace"]["seed"] == 5
    file = client.files.retrieve(batch.output_file_id)
    assert file.bytes == len(client.files.content(file.id).content)
    assert batch.id in [one.id for one in client.batches.list(limit=1)]


def test_lines_go_straight_in_and_out(server):
    _, client = server
    root = str(client.base_url)
    body = b'{"prompt": "a", "response_format": "url"}\r\n\r\n{"custom_id": "x", "prompt": "b"}'
    batch = httpx.post(f"{root}batches/lines", content=body).json()
    ended(client, batch["id"])
    first, second = httpx.get(f"{root}batches/{batch['id']}/output").text.splitlines()
    assert '"custom_id": null' in first
    assert '"custom_id": "x"' in second
    url = json.loads(first)["response"]["body"]["data"][0]["url"]
    answer = httpx.get(url)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (48, 32)
    assert httpx.get(f"{root}batches/{batch['id']}/errors").content == b""
    assert httpx.get(url[:-5] + "9.png").status_code == 404


def test_bad_lines_are_named_and_lose_no_other(server):
    _, client = server
    content = b"".join(
        [
            lines(envelope("good", seed=1)),
            b"{not json\n",
            lines(envelope("steps", steps=0), envelope("good"), {"custom_id": "u", "url": "/v1/chat", "body": {}}),
            b"\xff\xfe\n[]\n" + b'{"prompt": "' + b"x" * 200_000 + b'"}\n',
            lines(envelope("stream", stream=True), envelope("size", size="33x48"), envelope("last")),
            b'{"custom_id": "deep", "prompt": ' + b"[" * 50_000 + b"\n",
        ]
    )
    batch = ended(client, submitted(client, content).id)
    assert batch.status == "completed"
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (12, 2, 10)
    assert [one["custom_id"] for one in read(client, batch.output_file_id)] == ["good", "last"]
    found = {one.line: one.param for one in batch.errors.data}
    assert found == {
        2: "line", 3: "steps", 4: "custom_id", 5: "url", 6: "line", 7: "line", 8: "line", 9: "stream", 10: "size",
        12: "line",
    }  # fmt: skip
    errors = read(client, batch.error_file_id)
    assert len(errors) == 10
    assert errors[1]["custom_id"] == "steps"
    assert errors[1]["response"]["status_code"] == 422
    assert errors[1]["response"]["body"]["error"]["param"] == "steps"


def test_a_line_that_fails_fails_alone(server):
    service, client = server
    service.fail = lambda wish: ExecutionError("it broke", "Look") if wish.request.prompt == "bad" else None
    batch = ended(client, submitted(client, lines(envelope("a"), envelope("b", prompt="bad"), envelope("c"))).id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 1)
    (error,) = read(client, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("b", 500)


@pytest.mark.parametrize("content", [b"", b"\n  \n"])
def test_a_file_without_lines_fails(server, content):
    _, client = server
    batch = ended(client, submitted(client, content).id)
    assert batch.status == "failed"
    assert batch.errors.data[0].code == "empty_file"


def test_a_file_of_bad_lines_fails_and_says_all(server):
    _, client = server
    batch = ended(client, submitted(client, lines(envelope("a", steps=-1), 3)).id)
    assert batch.status == "failed"
    assert [error["response"]["status_code"] for error in read(client, batch.error_file_id)] == [422, 422]


def test_what_is_unknown_or_refused(server):
    _, client = server
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.NotFoundError):
        client.files.content("../../etc/passwd")
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-none", endpoint=URL, completion_window="24h")
    with pytest.raises(openai.UnprocessableEntityError):
        client.batches.create(input_file_id="file-none", endpoint="/v1/embeddings", completion_window="24h")
    with pytest.raises(openai.UnprocessableEntityError):
        client.files.create(file=b"x", purpose="fine-tune")
    batch = ended(client, submitted(client, lines(envelope("a"))).id)
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_deleting_the_output_deletes_the_pictures(tmp_path):
    with served(FakeService(), tmp_path) as client:
        batch = ended(client, submitted(client, lines(envelope("a"), envelope("b"))).id)
        assert len(list((tmp_path / "pictures" / batch.id).iterdir())) == 2
        assert client.files.delete(batch.output_file_id).deleted
        assert not (tmp_path / "pictures" / batch.id).exists()
        with pytest.raises(openai.NotFoundError):
            client.files.content(batch.output_file_id)
        assert client.files.delete(batch.input_file_id).deleted
        assert not list((tmp_path / "files").iterdir())
        assert client.files.list().data == []


def test_cancelling_answers_every_line(tmp_path):
    service = FakeService(hold=True)
    with served(service, tmp_path, BatchLimits(in_flight=2)) as client:
        batch = submitted(client, lines(*(envelope(str(index)) for index in range(6))))
        wait_for(lambda: len(service.taken) == 2)
        with pytest.raises(openai.ConflictError):
            client.files.delete(batch.input_file_id)
        service.release(next(iter(service.taken)))
        wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1)
        client.batches.cancel(batch.id)
        batch = ended(client, batch.id)
        assert batch.status == "cancelled"
        assert not service.taken
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 5)
        assert len(read(client, batch.output_file_id)) == 1
        assert {error["error"]["code"] for error in read(client, batch.error_file_id)} == {"batch_cancelled"}


def test_callers_go_first_and_busy_is_waited_out(tmp_path):
    service = FakeService()
    service.refuse = BusyError("full", 0.05, "Wait")
    with served(service, tmp_path, BatchLimits(in_flight=2)) as client:
        batch = submitted(client, lines(*(envelope(str(index)) for index in range(5))))
        wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress")
        service.refuse = None
        batch = ended(client, batch.id)
        assert (batch.request_counts.completed, batch.request_counts.failed) == (5, 0)
    assert {wish.priority for wish in service.seen} == {-100}


def test_limits_refuse_in_advance(tmp_path):
    limits = BatchLimits(lines=2, file_bytes=10_000, stored_bytes=12_000)
    with served(FakeService(), tmp_path, limits) as client:
        batch = ended(client, submitted(client, lines({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})).id)
        assert (batch.status, batch.errors.data[0].code) == ("failed", "too_many_lines")
        with pytest.raises(openai.APIStatusError, match="larger than") as raised:
            client.files.create(file=b"x" * 10_001, purpose="batch")
        assert raised.value.status_code == 413
        client.files.create(file=b"x" * 9_000, purpose="batch")
        with pytest.raises(openai.APIStatusError, match="no room"):
            client.files.create(file=b"x" * 9_000, purpose="batch")
        assert len(list((tmp_path / "files").iterdir())) == 2


def test_lines_wait_while_somebody_else_waits(tmp_path):
    service = FakeService(hold=True)
    with served(service, tmp_path) as client:
        asking = [threading.Thread(target=lambda: client.images.generate(prompt="now")) for _ in range(2)]
        for thread in asking:
            thread.start()
        wait_for(lambda: len(service.taken) == 2)
        batch = submitted(client, lines(envelope("a"), envelope("b")))
        wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress")
        time.sleep(0.3)
        assert len(service.taken) == 2
        service.hold = False
        service.release()
        assert ended(client, batch.id).request_counts.completed == 2
        for thread in asking:
            thread.join()


def test_a_full_store_makes_batches_wait_and_loses_nothing(tmp_path):
    with served(FakeService(), tmp_path, BatchLimits(stored_bytes=3000, in_flight=1)) as client:
        other = client.files.create(file=("other.jsonl", b"x" * 2400), purpose="batch")
        batch = submitted(client, lines(*(envelope(str(index)) for index in range(4))))
        wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0)
        time.sleep(0.3)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        client.files.delete(other.id)
        assert ended(client, batch.id).request_counts.completed == 4


def test_a_batch_waits_for_the_model_that_it_was_submitted_to(tmp_path):
    with served(FakeService(hold=True), tmp_path) as client:
        batch = submitted(client, lines(envelope("a")))
        wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress")
    other = FakeService(replace(CARD, name="another"))
    with served(other, tmp_path) as client:
        time.sleep(0.3)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        assert other.seen == []
    with served(FakeService(), tmp_path) as client:
        assert ended(client, batch.id).status == "completed"
