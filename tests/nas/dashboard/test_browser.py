"""The dashboard in a real browser, started as its users start it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.nas.dashboard.studies import HOSTILE, hostile, made, touch

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
selenium = pytest.importorskip("selenium", reason="selenium is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium or chromedriver is not installed"),
]
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [made(folder, "tiny", "search.trials=24", "baselines=[ReLU]"), hostile(folder)]


@pytest.fixture(scope="module")
def address(runs):
    """Of a dashboard that runs as a process of its own."""
    command = [sys.executable, "-m", "nas", "dashboard", *map(str, runs), "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert found, process.stderr.read()
        yield found.group()
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stderr.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """With nothing to complain about in the end."""
    chromium.get_log("browser")
    yield chromium
    severe = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
    elsewhere = (
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin))"
    )
    assert chromium.execute_script(elsewhere) == []


def until(browser, script: str, *arguments):
    """The first true value of a script; a page comes in parts."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            value = browser.execute_script(f"return {script}", *arguments)
        except selenium.common.exceptions.JavascriptException:  # what it looks for is not there yet
            value = None
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not seen in 30 s: {script}; the page says: {text(browser)[:2000]}")


def text(browser) -> str:
    return browser.execute_script("return document.body.innerText")


def click(browser, css: str) -> None:
    """With a mouse, that what covers an element is noticed."""
    until(browser, "document.querySelector(arguments[0])", css)
    browser.find_element("css selector", css).click()


ROWS = "[...document.querySelectorAll('.board tbody tr .formula')].map(e => e.innerText)"
COLUMN = "[...document.querySelectorAll('.board tbody td:nth-child({})')].map(e => e.innerText)"
PLOT = "document.querySelector('.js-plotly-plot')"
DRAWN = f"[...document.querySelectorAll('.js-plotly-plot')].every(p => p.data && p.data.length) && {PLOT}"
CLIPBOARD = """
    navigator.clipboard.write = async items => {
        window.copied = await (await items[0].getType('text/plain')).text();
    };
    navigator.clipboard.writeText = async text => { window.copied = text; };
    [...document.querySelectorAll('.copy')].at(-1).click();
"""


def sort_by_loss(browser) -> None:
    """By two clicks: the worst first."""
    click(browser, ".board th:nth-child(4) button")
    until(browser, "document.querySelector('.board th:nth-child(4)').className.includes('sorted')")
    click(browser, ".board th:nth-child(4) button")
    until(browser, "document.querySelector('.board th:nth-child(4)').className.includes('turned')")
    losses = [float(value.split()[0]) for value in until(browser, COLUMN.format(4)) if value]
    assert losses == sorted(losses, reverse=True)


def test_from_the_overview_to_a_module_and_back(browser, address):
    from selenium.webdriver import ActionChains

    browser.get(address)
    until(browser, "document.body.innerText.includes('24 of 24 searched')")
    until(browser, DRAWN)
    click(browser, ".card h2 a")
    until(browser, "location.pathname === '/study/tiny'")
    click(browser, ".sections a[href$='leaderboard']")
    ranks = until(browser, COLUMN.format(1))
    assert ranks == [str(n + 1) for n in range(len(ranks))]

    sort_by_loss(browser)
    browser.find_element("css selector", "input[type=search]").send_keys("tanh")
    until(browser, f"{ROWS}.length && {ROWS}.every(f => f.includes('tanh'))")
    found = browser.execute_script(f"return {ROWS}")

    far_from_the_link = browser.find_element("css selector", ".board tbody tr td:last-child")
    ActionChains(browser).move_to_element(far_from_the_link).click().perform()
    until(browser, "location.pathname.startsWith('/function/tiny/')")
    until(browser, "document.querySelector('h1').innerText === arguments[0]", found[0])
    until(
        browser,
        "document.body.innerText.includes('Lipschitz') && document.querySelector('.latex mjx-container, .latex svg')",
    )
    module = until(browser, "[...document.querySelectorAll('.copyable .code')].map(e => e.innerText).at(-1)")
    assert "class " in module
    assert "import torch" in module
    browser.execute_script(CLIPBOARD)
    assert until(browser, "window.copied") == browser.execute_script(
        "return [...document.querySelectorAll('.copyable .code')].at(-1).textContent"
    )

    browser.back()
    until(browser, f"{ROWS}.length && {ROWS}[0] === arguments[0]", found[0])
    assert browser.execute_script(f"return {ROWS}") == found  # searched and sorted as it was left
    browser.back()
    until(browser, "location.pathname === '/study/tiny'")


def test_the_page_follows_the_study_and_the_zoom_stays(browser, address, runs):
    from selenium.webdriver import ActionChains

    browser.get(f"{address}/study/tiny")
    until(browser, f"{DRAWN}")
    layer = browser.find_element("css selector", ".js-plotly-plot .nsewdrag")
    ActionChains(browser).move_to_element_with_offset(layer, -200, -20).click_and_hold().move_by_offset(
        250, 40
    ).release().perform()
    zoom = until(
        browser, "document.querySelector('.js-plotly-plot')._fullLayout.xaxis.autorange === false && "
        "document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range"
    )  # fmt: skip
    browser.execute_script("window.before = document.querySelector('.js-plotly-plot').data")
    touch(runs[0])
    until(browser, "document.querySelector('.js-plotly-plot').data !== window.before")
    assert browser.execute_script("return document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range") == zoom


def test_two_studies_are_compared(browser, address):
    browser.get(address)
    until(browser, "document.querySelectorAll('.pick input').length === 2")
    for box in browser.find_elements("css selector", ".pick input"):
        box.click()
    click(browser, "#compare a")
    until(browser, "location.pathname === '/compare/tiny/hostile'")
    until(browser, "document.querySelectorAll('#compared-board tbody tr').length > 10")


def test_a_hostile_study_does_nothing(browser, address):
    sections = ("", "/leaderboard", "/map", "/operators", "/learning", "/failures", "/configuration")
    for path in ("/", *(f"/study/hostile{section}" for section in sections)):
        browser.get(address + path)
        until(browser, "document.querySelector('main') && document.querySelector('main').innerText.includes('hostile')")
        time.sleep(0.5)
        assert browser.title != "owned"
        assert browser.execute_script("return document.querySelectorAll('img[src=x], main script').length") == 0
    assert HOSTILE in text(browser)
    browser.get(f"{address}/study/hostile/leaderboard")
    until(browser, f"{ROWS}.length")
    click(browser, ".board tbody tr .formula")
    until(browser, "document.body.innerText.includes('This cannot be shown')")
    assert browser.title != "owned"


@pytest.mark.parametrize(
    "path", ["/", "/study/tiny", "/study/tiny/leaderboard", "/study/tiny/failures", "/compare/tiny/hostile"]
)
def test_a_phone_shows_it_without_scrolling_sideways(browser, address, path):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(address + path)
        until(browser, "document.querySelector('main') && !document.querySelector('._dash-loading')")
        time.sleep(1)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_is_dark_if_the_system_is(browser, address):
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.get(f"{address}/study/tiny")
    until(browser, DRAWN)
    light = browser.execute_script("return document.querySelector('.js-plotly-plot')._fullLayout.font.color")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        until(browser, "document.querySelector('.js-plotly-plot')._fullLayout.font.color !== arguments[0]", light)
        page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", page))) < 64
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
