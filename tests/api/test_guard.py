"""Who may come in: keys, hosts, origins, and the headers of every answer."""

import pytest
from fake_service import FakeService
from http_app import GENERATIONS, ask, call

from headrace.api.settings import ApiSettings
from headrace.errors import ServiceError

KEYED = ApiSettings(api_keys=("first-key", "second-key"))


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic first-key", "first-key", "Bearer \xff"])
def test_without_a_key_nothing_is_made(given):
    service = FakeService()
    headers = [(b"authorization", given.encode("latin-1"))] if given else []
    answer = call(service, "POST", GENERATIONS, KEYED, json={"prompt": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not service.seen


@pytest.mark.parametrize("key", KEYED.api_keys)
def test_every_key_opens(key):
    answer = call(
        FakeService(), "POST", GENERATIONS, KEYED, json={"prompt": "x"}, headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/fake", "/v1/nothing", "/metrics", "/openapi.json"])
def test_a_key_is_asked_for_everywhere_but_for_health(path):
    assert call(FakeService(), "GET", path, KEYED).status_code == 401
    assert call(FakeService(), "GET", "/healthz", KEYED).status_code == 200
    assert call(FakeService(), "GET", "/readyz", KEYED).status_code == 200


def test_metrics_are_open_where_the_operator_says_so():
    assert call(FakeService(), "GET", "/metrics", ApiSettings(api_keys=("k",), open_metrics=True)).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("", 403)],
)
def test_a_name_that_is_not_this_servers_is_refused(host, status):
    settings = ApiSettings(allowed_hosts=("localhost", "127.0.0.1", "[::1]"))
    assert call(FakeService(), "GET", "/v1/models", settings, headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost", 200), ("https://evil.example", 403), ("null", 403), ("https://good.example", 200)],
)
def test_pages_of_others_may_not_ask(origin, status):
    settings = ApiSettings(cors_origins=("https://good.example",))
    answer = call(FakeService(), "POST", GENERATIONS, settings, json={"prompt": "x"}, headers={"origin": origin})
    assert answer.status_code == status


def test_other_origins_are_told_nothing_by_default():
    headers = {"origin": "https://good.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in call(FakeService(), "OPTIONS", GENERATIONS, headers=headers).headers
    allowed = ApiSettings(cors_origins=("https://good.example",), api_keys=("k",))
    answer = call(FakeService(), "OPTIONS", GENERATIONS, allowed, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://good.example"


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/nothing"])
def test_every_answer_has_the_headers_that_browsers_heed(path):
    headers = call(FakeService(), "GET", path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


def test_limits_that_let_nothing_through_are_refused():
    with pytest.raises(ServiceError, match="max_pictures is 0"):
        ApiSettings(max_pictures=0)
    with pytest.raises(ServiceError, match="API key"):
        ApiSettings(api_keys=("fine", " "))


def test_many_pictures_at_once_are_the_operators_to_allow():
    assert ask(FakeService(), ApiSettings(max_pictures=2), prompt="x", n=3).json()["error"]["param"] == "n"
