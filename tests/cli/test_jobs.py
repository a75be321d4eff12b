import itertools
import json

import pytest

from headrace.cli.jobs import BadLine, Job, count_pictures, expand, open_lines, read_jobs
from headrace.errors import RequestError


def lines(*values):
    return [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]


def test_n_pictures_have_following_seeds_and_share_the_rest():
    jobs = list(expand({"prompt": "pizza", "seed": 7, "n": 3, "name": "lunch", "steps": 5}, line=4))
    assert [job.request.seed for job in jobs] == [7, 8, 9]
    assert {(job.request.prompt, job.request.steps, job.name, job.line) for job in jobs} == {("pizza", 5, "lunch", 4)}


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3", None, 10**7])
def test_n_that_is_no_count_is_refused_before_any_job(n):
    with pytest.raises(RequestError, match="n is how many pictures") as error:
        expand({"prompt": "pizza", "n": n})
    assert error.value.field == "n"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", 3, "x" * 101, "a b"])
def test_name_that_is_no_part_of_a_file_name_is_refused(name):
    with pytest.raises(RequestError, match="name") as error:
        expand({"prompt": "pizza", "name": name})
    assert error.value.field == "name"


def test_the_last_seed_must_be_in_range_too():
    with pytest.raises(RequestError, match=str(2**63)):
        expand({"prompt": "pizza", "seed": 2**63 - 1, "n": 2})


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        (b"nope", "request", "not JSON"),
        (b"[1, 2]", "request", "[1, 2] is not a request"),
        (b"\xff\xfe\xfa", "request", "not JSON"),
        (b"[" * 100_000, "request", "not JSON"),
        (b'{"prompt": "x", "steps": 100000}', "steps", "100000"),
        (b'{"prompt": "x", "steps": 0}', "steps", "0"),
        (b'{"prompt": "x", "guidance_scale": NaN}', "guidance_scale", "nan"),
        (b'{"prompt": "x", "guidance_scale": -1}', "guidance_scale", "-1"),
        (b'{"prompt": "x", "sede": 1}', "sede", "Known fields"),
        (b'{"prompt": ["x"]}', "prompt", "['x']"),
        (b'{"prompt": " "}', "prompt", "empty"),
        (b'{"prompt": "\\ud800"}', "prompt", "unicode"),
        (json.dumps({"prompt": "x" * 100_000}).encode(), "prompt", "at most 10000 characters"),
    ],
)
def test_a_bad_line_names_its_number_field_and_value_and_the_rest_is_read(line, field, words):
    first, bad, last = read_jobs([b'{"prompt": "a"}', line, b'{"prompt": "b"}'])
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.error.field) == (2, field)
    assert words.lower() in str(bad.error).lower()
    assert bad.error.remedy
    assert (first.request.prompt, last.request.prompt, last.line) == ("a", "b", 3)


def test_options_are_defaults_for_what_a_line_leaves_out():
    jobs = read_jobs(lines({"prompt": "a"}, {"prompt": "b", "steps": 3}), {"steps": 9, "n": 2})
    assert [(job.request.prompt, job.request.steps) for job in jobs] == [("a", 9), ("a", 9), ("b", 3), ("b", 3)]


def test_blank_lines_count_but_ask_for_nothing():
    (job,) = read_jobs([b"\n", b"  \n", b'{"prompt": "a"}\n'])
    assert isinstance(job, Job)
    assert job.line == 3


def test_lines_are_read_only_when_wanted():
    endless = (b'{"prompt": "a", "n": 1000000}' for _ in itertools.count())
    taken = list(itertools.islice(read_jobs(endless), 3))
    assert [job.request.seed for job in taken] == [0, 1, 2]


def test_pictures_of_a_file_are_counted_and_of_a_pipe_are_not(tmp_path):
    file = tmp_path / "requests.jsonl"
    file.write_bytes(b'{"prompt": "a", "n": 3}\n\nnope\n{"prompt": "b"}\n{"prompt": "c", "n": -4}\n')
    assert count_pictures(str(file)) == 4
    assert count_pictures("-") is None


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    for source in (tmp_path, tmp_path / "missing.jsonl"):
        with pytest.raises(RequestError, match=source.name):
            open_lines(str(source))


def test_pictures_that_are_made_several_at_once_share_requests():
    jobs = list(expand({"n": 5, "seed": 7}))
    assert [job.of_several(1) for job in jobs] == [(job.request, 0) for job in jobs]
    assert [(request.seed, picture) for request, picture in (job.of_several(2) for job in jobs)] == [
        (7, 0), (7, 1), (8, 0), (8, 1), (9, 0),
    ]  # fmt: skip
