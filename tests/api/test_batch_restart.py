"""Batches go on after the whole server was lost."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from batch_server import ended, envelope, lines, read, submitted, wait_for
from fake_service import FakeService

from headrace.api.app import create_app
from headrace.api.batches.limits import BatchLimits
from headrace.api.batches.records import BatchRecord, LineRecord, LineState
from headrace.api.batches.shelf import Shelf
from headrace.api.settings import ApiSettings
from headrace.errors import ServiceError

HERE = Path(__file__).parent


@contextmanager
def process(folder: Path, log: Path):
    """(process, client) of a server that can be killed."""
    command = [sys.executable, str(HERE / "batch_child.py"), str(folder), str(log)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE, text=True)
    try:
        port = child.stdout.readline().strip()
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=8)
        yield child, client
    finally:
        child.kill()
        child.wait()


def test_after_kill_9_every_line_is_answered_once(tmp_path):
    data, first, second = tmp_path / "data", tmp_path / "first", tmp_path / "second"
    count = 24
    with process(data, first) as (child, client):
        content = lines(*(envelope(f"line {index}", prompt=f"prompt {index}") for index in range(count)), "bad")
        batch = submitted(client, content)
        wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 4, 30)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    shelf = Shelf(data, BatchLimits())
    before = {line.custom_id: line.answer for line in shelf.batches.answers(batch.id, "output")}
    shelf.close()
    assert 4 <= len(before) < count
    with process(data, second) as (_, client):
        batch = ended(client, batch.id, 30)
        assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", count, 1)
        answers = read(client, batch.output_file_id)
        assert [one["custom_id"] for one in answers] == [f"line {index}" for index in range(count)]
        assert len(read(client, batch.error_file_id)) == 1
    made_again = {f"line {prompt.split()[1]}" for prompt in second.read_text().splitlines()}
    assert not made_again & set(before)


def test_two_servers_never_share_a_folder(tmp_path):
    shelf = Shelf(tmp_path, BatchLimits())
    with pytest.raises(ServiceError, match="another server"):
        create_app(FakeService(), ApiSettings(data_folder=tmp_path))
    shelf.close()
    Shelf(tmp_path, BatchLimits()).close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    shelf = Shelf(tmp_path, BatchLimits())
    with shelf._database.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    shelf.close()
    with pytest.raises(ServiceError, match="newer Headrace"):
        Shelf(tmp_path, BatchLimits())
    (tmp_path / "batches.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(ServiceError, match="cannot be used"):
        Shelf(tmp_path, BatchLimits())


@pytest.fixture
def kept(tmp_path):
    """(shelf, batch, clock) with a batch of two lines in progress."""
    clock = [1000.0]
    shelf = Shelf(tmp_path, BatchLimits(retention_s=7200, batches=1), now=lambda: clock[0])
    with shelf.files.upload() as upload:
        upload.write(lines({"prompt": "a"}, {"prompt": "b"}))
        file = upload.finish("two.jsonl")
    record = BatchRecord(
        "batch_1", "/v1/images/generations", file.id, "validating", "1h", "fake", "http://a", 1000, 4600
    )
    batch = shelf.batches.create(record)
    shelf.batches.add_lines(
        batch.id, [LineRecord(batch.id, number, f"id{number}", None, 0, 1, 0) for number in (1, 2)], []
    )
    shelf.batches.begin(batch.id)
    yield shelf, batch, clock
    shelf.close()


def test_a_line_is_answered_once(kept):
    shelf, batch, _ = kept
    line = shelf.batches.waiting(batch.id, 0)
    done = LineRecord(**{**vars(line), "state": LineState.ANSWERED, "answer": "{}", "bytes": 3, "stored": 10})
    used = shelf.space.used
    assert shelf.batches.answer(done)
    assert not shelf.batches.answer(done)
    assert shelf.space.used == used + 10
    assert shelf.batches.get(batch.id).completed == 1
    assert shelf.batches.waiting(batch.id, 0).number == 2


def test_what_is_left_when_the_window_ends_is_answered_as_expired(kept):
    shelf, batch, _ = kept
    shelf.batches.finish(batch.id, "expired")
    record = shelf.batches.get(batch.id)
    assert (record.status, record.failed, record.output_file) == ("expired", 2, None)
    file = shelf.files.get(record.error_file)
    content = b"".join(shelf.content(file))
    assert content.count(b'"batch_expired"') == 2
    assert len(content) == file.bytes


def test_retention_removes_what_no_batch_needs(kept):
    shelf, batch, clock = kept
    clock[0] += 8000
    shelf.forget_expired()
    assert shelf.files.get(batch.input_file).id == batch.input_file  # still being read
    shelf.batches.finish(batch.id, "expired")
    shelf.forget_expired()
    assert [file.kind for file in shelf.files.page(None, 10, True, None)] == ["errors"]
    clock[0] += 8000
    shelf.forget_expired()
    assert shelf.files.page(None, 10, True, None) == []
    assert shelf.batches.page(None, 10) == []
    assert shelf.space.used == 0


def test_no_more_batches_than_allowed(kept):
    shelf, batch, _ = kept
    with pytest.raises(Exception, match="1 batches are not over"):
        shelf.batches.create(batch)


def test_what_an_upload_left_behind_is_swept(tmp_path):
    shelf = Shelf(tmp_path, BatchLimits())
    upload = shelf.files.upload()
    upload.write(b"half a li")
    (tmp_path / "pictures" / "batch_gone").mkdir()
    shelf.close()
    Shelf(tmp_path, BatchLimits()).close()
    assert not list((tmp_path / "files").iterdir())
    assert not list((tmp_path / "pictures").iterdir())
