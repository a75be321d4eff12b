"""The page in headless Chromium, over a fake service: what a user sees and does."""

import pytest
from batch_server import served
from fake_service import CARD, CLASSES, UNCONDITIONAL, FakeService
from page_browser import browsers

from headrace.errors import BusyError, ExecutionError

browser = pytest.fixture(scope="module")(browsers)
DONE = ".card[data-state=done]"


@pytest.fixture(scope="module")
def server():
    """(service, address) of one server for all tests; each sets the service as it needs it."""
    service = FakeService()
    with served(service, None) as client:
        yield service, str(client.base_url).removesuffix("/v1/")


@pytest.fixture
def opened(browser, server):
    """Opens a page in a fresh context; at the end nothing may have gone wrong in its scripts."""
    service, address = server
    service.card, service.hold, service.refuse, service.fail = CARD, False, None, lambda wish: None
    problems, contexts = [], []

    def open_page(path="/", ready=True, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
        page.goto(address + path)
        if ready:
            page.wait_for_selector("#composer:not([inert])", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def test_a_picture_is_asked_for_shown_kept_and_deleted(opened, server):
    service, _ = server
    service.hold = True
    page = opened()
    assert page.locator("#empty").is_visible()
    page.fill("#prompt", "red apple")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".card[data-state=making]")
    while not service.taken:
        page.wait_for_timeout(20)
    service.release(previews_only=True)
    page.wait_for_selector(".card img.preview")
    assert "of 20" in page.inner_text(".card .badge")
    assert page.locator(".progress i").evaluate("bar => bar.style.width") == "75%"
    service.release()
    page.wait_for_selector(DONE)
    assert page.inner_text(".card-title") == "red apple"
    assert "20 rows" in page.inner_text(".card-facts")
    page.click(".card .picture")
    details = page.inner_text("#details")
    assert "ddim" in details
    assert "plain sampling" in details
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(DONE)
    page.fill("#prompt", "something else")
    page.click(".card .reuse")
    assert page.input_value("#prompt") == "red apple"
    assert page.input_value("#seed") == str(service.seen[-1].request.seed)
    page.click(".card .remove")
    assert page.locator("#empty").is_visible()


def test_settings_reach_the_service(opened, server):
    service, _ = server
    page = opened()
    page.fill("#prompt", "a boat")
    page.check("input[name=acceleration][value=fast]", force=True)
    assert page.input_value("#steps-number") == "12"
    page.fill("#guidance-number", "3.5")
    page.fill("#seed", "7")
    page.click("#more")
    page.click("#generate")
    page.wait_for_selector(f"{DONE} >> nth=1")
    first, second = service.seen[-2:]
    assert (first.request.steps, first.request.guidance_scale, first.acceleration) == (12, 3.5, "fast")
    assert {first.request.seed, second.request.seed} == {7, 8}
    assert first.previews == 3


def test_what_settings_cost_is_told(opened):
    page = opened()
    page.fill("#prompt", "x")
    page.wait_for_selector("#estimate-work:has-text('1')")
    assert page.inner_text("#estimate-rows") == "40"
    page.fill("#guidance-number", "1")
    page.wait_for_selector("#estimate-rows:has-text('20')")
    assert page.inner_text("#guidance-cost") == "off: half the rows"


def test_errors_are_told_where_they_are(opened, server):
    service, _ = server
    page = opened()
    page.click("#generate")
    assert page.inner_text("#form-error") == "Say what the picture should show."
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.fill("#prompt", "x")
    assert not page.locator("#form-error").is_visible()
    page.select_option("#size", "custom")
    page.fill("#width", "33")
    page.wait_for_selector("#form-error:has-text('33')")
    page.select_option("#size", "")
    service.refuse = BusyError("the queue is full", 2.0, "Try again in 2 s")
    page.click("#generate")
    page.wait_for_selector("#form-error:has-text('the queue is full')")
    assert page.locator(".card").count() == 0
    service.refuse, service.fail = None, lambda wish: ExecutionError("the network broke", "Look at the log")
    page.click("#generate")
    page.wait_for_selector(".card[data-state=failed]:has-text('the network broke')")


def test_the_live_view_moves(opened):
    page = opened("/#engine")
    assert page.inner_text("#engine h1") == "Engine"
    other = opened()
    other.fill("#prompt", "x")
    other.click("#generate")
    other.wait_for_selector(DONE)
    page.bring_to_front()
    page.wait_for_selector("#requests code")
    page.wait_for_selector("#controller:has-text('Decoder chunks')")
    page.focus("#timeline")
    page.keyboard.press("ArrowLeft")
    assert "rows in 1 calls" in page.inner_text("#readout")
    assert page.get_attribute("#pause", "aria-pressed") == "true"


def test_a_phone_never_scrolls_sideways(opened):
    page = opened(viewport={"width": 360, "height": 740}, has_touch=True)
    page.fill("#prompt", "a word that is very long: " + "w" * 200)
    page.click("#generate")
    page.wait_for_selector(DONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.click("[data-view-link=engine]")
    page.wait_for_selector("#controller dt")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_dark_follows_the_system_until_one_chooses(opened):
    page = opened(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(12, 18, 19)"
    page.click("#theme-button")
    assert page.evaluate(background) == "rgb(244, 246, 245)"
    page.reload()
    assert page.evaluate(background) == "rgb(244, 246, 245)"


def test_the_keyboard_reaches_everything_in_order(opened):
    page = opened()
    reached = []
    while "generate" not in reached and len(reached) < 30:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    wanted = ["skip-link", "brand", "theme-button", "prompt", "count", "steps", "guidance", "size", "generate"]
    assert [one for one in reached if one in wanted] == wanted
    unnamed = "[...document.querySelectorAll('button, input, select, textarea')].filter(one => !(one.labels?.length || "
    unnamed += "one.getAttribute('aria-label') || one.textContent.trim())).map(one => one.id)"
    assert page.evaluate(unnamed) == []


@pytest.mark.parametrize(("card", "title"), [(CLASSES, "Class 4"), (UNCONDITIONAL, "Drawn freely")])
def test_models_without_prompts(opened, server, card, title):
    service, _ = server
    service.card = card
    page = opened()
    assert not page.locator("#prompt").is_visible()
    if card.classes:
        page.check("input[name=class_label][value='4']", force=True)
    page.click("#generate")
    page.wait_for_selector(DONE)
    assert page.inner_text(".card-title") in (title, "4")


def test_a_key_is_asked_for(browser):
    with served(FakeService(), None, api_keys=("open-sesame",)) as client:
        page = browser.new_page()
        page.goto(str(client.base_url).removesuffix("v1/"))
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-error:has-text('does not know')")
        page.fill("#key", "open-sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("#state[data-state=ready]")
        page.wait_for_selector("#composer:not([inert])", state="attached")
        page.close()
