"""A service that cannot start, and what is said of one that does."""

import io
import threading

import httpx
import pytest
from rich.console import Console

from headrace.api.server import address_of, listen
from headrace.api.settings import ApiSettings
from headrace.cli.serve_display import ServeDisplay
from headrace.cli.serve_run import Asked, run
from headrace.errors import CorruptModelError, NotReadyError
from headrace.service import AccelerationCard, ModelCard, Status
from headrace.service.settings import ServiceSettings

CARD = ModelCard(
    name="fake", family="fake [diffusion]", conditioning="prompt", classes=0, guided=True, default_guidance=7.5,
    default_steps=20, default_solver="ddim", default_size=(32, 48), size_multiple=8, max_pixels=65536,
    accelerations=(AccelerationCard("fast", "block cache 40%", 1.7),), default_acceleration="fast",
)  # fmt: skip


class Broken:
    """A service whose engine does not load, once it was asked how it is."""

    def __init__(self):
        self.asked = threading.Event()
        self.stopped = False

    @property
    def model(self):
        raise NotReadyError("it loads")

    def start(self, wait_s=None):
        self.asked.wait(30)
        raise CorruptModelError("unet/config.json is cut off", "Copy it again")

    def stop(self, drain_s=0.0):
        self.stopped = True
        return True

    def status(self):
        self.asked.set()
        return Status("starting")

    def watch(self, tell):
        return lambda: None


def test_a_model_that_does_not_load_ends_it_with_the_reason():
    service = Broken()
    asked = Asked("x", "127.0.0.1", 0, 5.0, "json", {}, {})
    answers = []
    with listen("127.0.0.1", 0) as listening:
        address = address_of(listening)
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{address}/readyz", timeout=30).status_code))
        asking.start()
        with pytest.raises(CorruptModelError, match="cut off"):
            run(service, ServiceSettings("x"), ApiSettings(), asked, listening)
        asking.join(30)
    assert answers == [503]
    assert service.stopped


def test_it_says_what_is_served_where_and_how_to_call_it():
    text = io.StringIO()
    display = ServeDisplay("http://127.0.0.1:8000", True, Console(file=text, width=100))
    display.ready(CARD, ApiSettings(quality={"low": "fast"}))
    said = text.getvalue()
    for part in ("fake [diffusion]", "48x32", "Bearer KEY", "1.70 times", "by default", "low: fast", "curl http://127"):
        assert part in said
