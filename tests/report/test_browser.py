"""The page in Chromium: nothing is loaded, nothing is cut off, tables sort, images zoom, and all is there without scripts."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stl_ray.config import ReportConfig
from stl_ray.report import build_report
from stl_ray.store import Storage

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, of the extra dev, is not installed")

WIDTHS = (390, 1000, 1400)

TOO_WIDE = """
    [document.documentElement, ...document.querySelectorAll("body *")]
      .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible" && e.tagName !== "PRE"
        || e.getBoundingClientRect().right > window.innerWidth + 1)
      .map(e => `${e.tagName} ${e.scrollWidth} of ${e.clientWidth}: ${e.innerText?.slice(0, 60)}`)
"""

OPEN = "document.querySelectorAll('details').forEach(folded => folded.open = true)"


@pytest.fixture(scope="module")
def chromium() -> Iterator["sync_api.Browser"]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium here (`make chromium` installs it)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def window(chromium: "sync_api.Browser", width: int = 1000, **options) -> "sync_api.Page":
    """An empty page, which waits long: a busy machine may take a minute for it."""
    page = chromium.new_page(viewport={"width": width, "height": 900}, **options)
    page.set_default_timeout(180_000)
    return page


@pytest.fixture(scope="module")
def html(finished, tmp_path_factory) -> str:
    """The page of the finished experiment, as a URL."""
    return Path(build_report(str(finished), str(tmp_path_factory.mktemp("report")), ReportConfig()).html).as_uri()


@pytest.fixture
def page(chromium, html) -> Iterator["sync_api.Page"]:
    opened = window(chromium)
    opened.goto(html)
    opened.evaluate(OPEN)
    yield opened
    opened.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_certificate_nothing_fails_is_loaded_or_cut_off(chromium, html, width, scheme):
    opened = window(chromium, width, color_scheme=scheme)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on(
        "request", lambda request: wrong.append(request.url) if not request.url.startswith(("data:", html)) else None
    )
    opened.goto(html)
    opened.evaluate(OPEN)
    assert wrong == []
    assert opened.evaluate(TOO_WIDE) == []
    opened.close()


def test_certificate_long_names_are_not_cut_off_either(chromium, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "root")
    storage, long = Storage.open(str(tmp_path / "root")), "a-name-of-" + "forty-letters" * 3
    for path in (tmp_path / "root" / "evaluate").glob("*/scores.json"):
        place = str(path.relative_to(tmp_path / "root"))
        text = storage.read(place).decode().replace('"bim-0.03"', f'"{long}"').replace('"stl"', f'"{long}"')
        storage.write(place, text.encode())
    shutil.rmtree(tmp_path / "root" / "report", ignore_errors=True)
    for gallery in (tmp_path / "root" / "evaluate").glob("*/gallery.parquet"):
        gallery.unlink()
    for width in WIDTHS:
        opened = window(chromium, width)
        opened.goto(Path(build_report(str(tmp_path / "root"), str(tmp_path / "out"), ReportConfig()).html).as_uri())
        opened.evaluate(OPEN)
        assert long in opened.content()
        assert opened.evaluate(TOO_WIDE) == [], width
        opened.close()


def column(table: "sync_api.Locator", number: int) -> list[str]:
    return table.evaluate("(t, n) => [...t.tBodies[0].rows].map(r => r.cells[n].firstChild.textContent.trim())", number)


def test_tables_sort_by_number_and_by_text_and_back(page):
    table = page.locator("table").filter(has=page.locator("tbody tr:nth-child(3)")).first
    heading, number = table.locator("thead th").nth(1), column(table, 1)
    values = [text for text in number if text != "–"]  # noqa: RUF001
    assert len({*values}) > 1
    heading.click()
    assert column(table, 1)[: len(values)] == sorted(values, key=float, reverse=True)
    heading.focus()
    page.keyboard.press("Enter")
    assert column(table, 1)[: len(values)] == sorted(values, key=float)
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.click()
    assert column(table, 1) == number
    names = column(table, 0)
    table.locator("thead th").first.click()
    assert column(table, 0) != names and sorted(column(table, 0)) == sorted(names)


def test_images_zoom_and_go_back(page):
    image = page.locator("figure img").first
    before = image.bounding_box()["width"]
    image.click()
    assert page.locator("dialog img").bounding_box()["width"] > 1.5 * before
    page.keyboard.press("Escape")
    assert page.locator("dialog").count() == 0
    image.click()
    page.locator("dialog").click()
    assert page.locator("dialog").count() == 0


def test_certificate_all_of_it_is_there_without_scripts_and_when_printed(chromium, page, html):
    bare = window(chromium, java_script_enabled=False)
    bare.goto(html)
    counts = [[one.locator(what).count() for what in ("table", "tbody tr", "img", "section")] for one in (bare, page)]
    assert counts[0] == counts[1] and min(counts[0]) > 0
    page.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = false)")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    bare.close()


def test_the_table_of_contents_stays_in_sight_on_wide_screens(chromium, html):
    opened = window(chromium, 1400)
    opened.goto(html)
    opened.evaluate("window.scrollTo(0, document.body.scrollHeight / 2)")
    assert opened.locator("nav a").first.evaluate("e => e.getBoundingClientRect().top") > 0
    opened.close()
