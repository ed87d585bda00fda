"""Chromium for tests of pages, and tabs that ask nobody but the server and break no rule of its policy."""

import contextlib
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


@contextlib.contextmanager
def chromium():
    """A browser; without one the test is skipped."""
    if not CHROMIUM:
        pytest.skip("there is no chromium (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="there is no playwright (pip install playwright)")
    with api.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@contextlib.contextmanager
def tab(browser, server):
    """A tab of a desk, on the server."""
    context = browser.new_context(viewport=DESK, permissions=["microphone"], base_url=server.url)
    page, wrong = context.new_page(), []
    page.on("request", lambda request: wrong.append(request.url) if elsewhere(request.url, server) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.set_default_timeout(15_000)
    yield page
    context.close()
    assert not wrong


def elsewhere(url, server):
    return not url.startswith((server.url, "blob:", "data:"))


def show(page, name):
    page.goto(f"/#{name}")
    page.wait_for_selector(f"h1:text-is('{name}')")


def answer(page):
    page.wait_for_selector(".answered")
    assert page.get_attribute("#answer", "aria-busy") == "false"
    return page.inner_text(".answered")
