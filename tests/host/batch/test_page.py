"""The page in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imgconv.batch.tasks import State
from tests.unit.batch.test_report import EVIL, document, entry, page

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="apt install chromium chromium-driver")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--window-size=1280,900", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(
        shutil.which("chromedriver"), env={**os.environ, "HOME": str(tmp_path)}))
    yield driver
    driver.quit()


def rows(browser: Chrome) -> list[str]:
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('.guest')].filter(e => !e.hidden)"
        ".map(e => e.dataset.name)")
    return found


@needs_chromium
def test_the_page_works(browser: Chrome, tmp_path: Path) -> None:
    made = [entry(name, state, document(name, None)) for name, state in (
        ("web", State.DONE), ("db", State.DONE), ("old", State.REFUSED), ("bad", State.FAILED))]
    path = tmp_path / "report.html"
    path.write_text(page(*made, entry(EVIL, State.FAILED, document(EVIL, None), EVIL)))
    browser.get(path.as_uri())
    assert len(rows(browser)) == 5

    def click(selector: str) -> None:
        browser.find_element("css selector", selector).click()

    click('.chip[data-state="done"]')
    assert rows(browser) == ["web", "db"]
    search = browser.find_element("id", "search")
    search.send_keys("WEB")
    assert rows(browser) == ["web"]
    assert browser.find_element("id", "shown").text == "1 shown"
    search.send_keys("nothing such")
    assert browser.find_element("id", "none").is_displayed()
    search.clear()
    search.send_keys(" ")
    click('.chip[data-state=""]')
    click('[data-sort="name"]')
    assert [name for name in rows(browser) if name in ("bad", "db", "old", "web")] == [
        "bad", "db", "old", "web"]
    click('.guest[data-name="web"] .open')
    detail = browser.find_element("css selector", '.guest[data-name="web"] .detail')
    assert detail.is_displayed()
    assert "Proof" in detail.text
    click('.guest[data-name="web"] .change summary')
    assert "+web" in detail.text
    _is_calm(browser, path)


def _is_calm(browser: Any, path: Path) -> None:  # noqa: ANN401 - Selenium's logs have no types
    """No message on the console, no dialog, nothing asked of the network."""
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in
                browser.get_log("performance")]
    asked = [message["params"]["request"]["url"] for message in messages
             if message["method"] == "Network.requestWillBeSent"]
    assert path.as_uri() in asked
    # The browser's own first page is at chrome:.
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "chrome"}


@needs_chromium
def test_on_paper_everything_is_open(browser: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(entry("web", State.DONE, document("x", None))))
    browser.get(path.as_uri())
    height = "return document.querySelector('.more').hidden"
    assert browser.execute_script(height)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert not browser.execute_script(height)
    assert browser.execute_script("return document.querySelector('.change').open")
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(height)
