"""Whatever is sent: never an error of the server's, and answers as the documentation says."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import schemathesis
from fake_service import FakeService
from http_server import served
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    positive_data_acceptance,
)

from headrace.api.app import create_app
from headrace.api.settings import ApiSettings

# What the served model cannot make is refused, whatever the schema says of other models. Where a path has routes of two
# methods, the framework names those of one in Allow.
_NOT_CHECKED = [positive_data_acceptance, allow_header_conformance]


def documented():
    """The documentation, but for the engine's events, which never end, and bodies that are lines."""
    with TemporaryDirectory() as folder:
        app = create_app(FakeService(), ApiSettings(data_folder=Path(folder)))
        found = schemathesis.openapi.from_dict(app.openapi()).exclude(path_regex="live|events|batches/lines")
        app.state.batching.shelf.close()
    return found


schema = documented()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(FakeService(), ApiSettings(data_folder=tmp_path_factory.mktemp("batches"))) as one:
        yield one


@schema.parametrize()
@settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_any_request_is_answered_as_documented(case, address):
    case.call_and_validate(base_url=address, excluded_checks=_NOT_CHECKED)
