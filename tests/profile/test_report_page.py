"""The report's page in a real browser: it opens, and does what is asked of it by mouse and keys."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recordings import Life, made

from poolwise.profile.recording import NUMPY, Recording
from poolwise.profile.report import data, page

playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not here: make .venv/.browser"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("Chromium is not here: apt-get install chromium", allow_module_level=True)
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
WIDTH = 1280

Show = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield started
        started.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """Open the page of a recording; nothing may be complained of, asked for, or popped up."""
    complaints: list[str] = []
    shown = []

    def opened(found: Recording, *, scheme: str = "light", **more: Any) -> Any:
        file = tmp_path / "page.html"
        file.write_text(page.page(data.of(found, **more)), encoding="utf-8")
        one = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, color_scheme=scheme, offline=True
        )
        one.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        one.on("console", lambda message: complaints.append(f"console: {message.text}"))
        one.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        one.on("request", lambda request: asked(request.url))
        one.goto(file.as_uri())
        shown.append(one)
        return one

    def asked(url: str) -> None:
        if url != (tmp_path / "page.html").as_uri() and not url.startswith("data:"):
            complaints.append(f"request: {url}")

    yield opened
    for one in shown:
        one.close()
    assert complaints == []


def program() -> Recording:
    """Four sites of two callers: bytes, objects, age and what is alive order them differently."""
    return made(
        [
            *[Life(at / 10, at / 10 + 0.001, size=1000, weight=9, stack=4) for at in range(80)],
            *[Life(at / 10, at / 10 + 2.0, size=5000, stack=5) for at in range(60)],
            *[Life(1 + at / 50, None, size=210, weight=4, stack=6) for at in range(40)],
            *[Life(at, at + 1.5, size=100, stack=7, domain=NUMPY) for at in range(3)],
        ],
        stacks=7,
    )


def rows(one: Any) -> list[str]:
    """The functions in the table, in order."""
    texts: list[str] = one.locator("#site-table tbody .name b").all_inner_texts()
    return texts


def root(one: Any) -> str:
    label: str = one.locator("#flame-graph .root").get_attribute("aria-label")
    return label


def test_the_flame_graph_shows_all_by_each_mode(show: Show) -> None:
    one = show(program())
    totals = {
        "allocated bytes": f"{(80 * 9000 + 60 * 5000 + 40 * 840 + 300) / 2**20:.2f} MiB",
        "allocated objects": "943",
        "alive bytes": f"{40 * 840 / 1024:.1f} KiB",
        "alive objects": "160",
    }
    for mode, text in totals.items():
        one.get_by_role("radio", name=mode).check(force=True)
        assert root(one) == f"all, {text}, 100 % of all"
    widths = {
        mode: one.locator(".frame", has_text="f2").first.bounding_box()["width"]
        for mode in ("alive objects", "allocated bytes")
        if one.get_by_role("radio", name=mode).check(force=True) is None
        and one.locator(".frame", has_text="f2").count()
    }
    assert "alive objects" not in widths  # of f2's callees nothing is alive
    one.get_by_role("radio", name="heaptime").check(force=True)
    assert "KiB·s" in root(one) or "MiB·s" in root(one)


def test_frames_are_as_wide_as_their_weight(show: Show) -> None:
    one = show(program())
    box = one.locator("#flame-graph .root").bounding_box()
    whole = 80 * 9000 + 60 * 5000 + 40 * 840 + 300
    for name, weight in (("f1", whole), ("f2", 80 * 9000 + 60 * 5000), ("f4", 80 * 9000)):
        frame = one.locator(".frame.own", has_text=name).first.bounding_box()
        assert frame["width"] == pytest.approx(box["width"] * weight / whole, abs=2)


def test_zoom_by_click_and_keys(show: Show) -> None:
    one = show(program())
    whole = one.locator("#flame-graph .root").bounding_box()["width"]
    frame = one.locator(".frame.own", has_text="f5").first
    assert frame.bounding_box()["width"] < 0.5 * whole
    frame.click()
    assert one.locator(".frame.own", has_text="f5").first.bounding_box()["width"] == whole
    assert not one.locator(".frame.own", has_text="f4").count()
    one.get_by_role("button", name="Show all").click()
    assert one.locator(".frame.own", has_text="f4").count() == 1
    one.locator("#flame-graph .frame[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        one.keyboard.press(key)
    assert one.evaluate("document.activeElement.innerText").startswith("f5")
    assert one.locator(".frame.own", has_text="f5").first.bounding_box()["width"] == whole
    one.keyboard.press("Escape")
    assert one.locator(".frame.own", has_text="f4").count() == 1


def test_the_search_marks_frames_and_keeps_rows(show: Show) -> None:
    one = show(program())
    one.keyboard.press("/")
    one.keyboard.type("F5")
    assert rows(one) == ["f5"]
    share = 60 * 5000 / (80 * 9000 + 60 * 5000 + 40 * 840 + 300)
    assert f"{100 * share:.0f} % of the graph, 1 of 4 sites" in one.locator("#found").inner_text()
    assert one.locator(".frame.found").count() == 1
    assert one.locator("#heat-map [data-site]").count() == 1
    one.locator("#search").fill("no such thing")
    assert rows(one) == []
    one.locator("#search").fill("")
    assert len(rows(one)) == 4


def test_the_table_sorts_both_ways(show: Show) -> None:
    one = show(program())
    assert rows(one) == ["f4", "f5", "f6", "f7"]
    orders = {
        "Objects": ["f4", "f6", "f5", "f7"],
        "Heaptime": ["f5", "f6", "f4", "f7"],
        "At once": ["f6", "f5", "f4", "f7"],
        "Alive": ["f6", "f4", "f5", "f7"],
        "Site": ["f4", "f5", "f6", "f7"],
    }
    for heading, order in orders.items():
        button = one.locator("#site-table thead").get_by_role("button", name=heading, exact=True)
        button.click()
        if heading == "At once":
            assert set(rows(one)[:2]) == set(order[:2])
        else:
            assert rows(one) == order
        cell = one.locator("#site-table th[aria-sort]")
        assert cell.get_attribute("aria-sort") == (
            "ascending" if heading == "Site" else "descending"
        )
    button.click()
    assert rows(one) == ["f7", "f6", "f5", "f4"]


def test_what_is_unsure_is_grey(show: Show) -> None:
    one = show(program())
    assert one.locator("#site-table tr.few b").all_inner_texts() == ["f7"]


def test_the_heat_map_has_a_cell_for_each_lifetime_on_each_clock(show: Show) -> None:
    found = program()
    one = show(found)
    folded = data.of(found)["sites"]
    clocks = {"time": "ns", "bytes allocated": "volume", "collections survived": "collections"}
    for label, clock in clocks.items():
        one.locator("#lifetimes").get_by_role("radio", name=label).check(force=True)
        for kind, part in (("ended", 0), ("alive", 1)):
            expected = sum(
                value > 0 for site in folded for value in site["life"][clock]["objects"][part]
            )
            assert one.locator(f"#heat-map .cell.{kind}").count() == expected
        # One choice for the whole page.
        assert one.locator("#sites").get_by_role("radio", name=label).is_checked()
    assert one.locator("#heat-map .cell.alive").count() > 0
    one.locator("#heat-map .cell.ended").first.hover()
    assert "of the site's" in one.locator("#tip").inner_text()


def test_a_site_in_detail(show: Show) -> None:
    one = show(program())
    row = one.locator("#site-table tr[data-site]").nth(1)
    row.focus()
    one.keyboard.press("Enter")
    detail = one.locator("#detail")
    assert "f5" in detail.inner_text()
    assert "app.py:1" in detail.inner_text()
    assert "293 KiB" in detail.inner_text()
    assert detail.locator("figure").count() == 4
    one.keyboard.press("Escape")
    assert detail.is_hidden()
    assert one.evaluate("document.activeElement.dataset.site") == row.get_attribute("data-site")


def test_levels_over_time(show: Show) -> None:
    one = show(program())
    assert one.locator("#level-chart path").count() == 5  # each site, and all others
    assert one.locator("#level-strips [data-site]").count() == 4
    label = one.locator("#level-chart svg").get_attribute("aria-label")
    one.locator("#level-weights").get_by_role("radio", name="objects").check(force=True)
    assert one.locator("#level-chart svg").get_attribute("aria-label") != label
    one.locator("#level-chart .plot").hover()
    assert "mean over" in one.locator("#tip").inner_text()


def test_verdicts_or_why_there_are_none(show: Show) -> None:
    one = show(program(), no_advice="not measured yet")
    assert "not measured yet" in one.locator("#verdicts").inner_text()
    verdict = {
        "verdict": "pool", "gain": {"value": 0.1, "low": 0.08, "high": 0.13, "unit": "-"},
        "site": {"function": "f5", "file": "app.py", "line": 1, "expression": "", "type": "thing"},
        "memory_bytes": 4096, "capacity": 3, "hit_bound": 1.0, "reuse_bound": 1.0,
        "reason": "because", "code": "pool = Pool(thing)",
    }  # fmt: skip
    loss = {"value": -0.01, "low": -0.02, "high": 0.0}
    dont = verdict | {"verdict": "don't", "site": None, "gain": loss, "code": ""}
    one = show(program(), advice={"verdicts": [verdict, dont], "notes": ["a note"]})
    text = one.locator("#verdicts").inner_text()
    assert "10.0 % [8.0, 13.0]" in text
    assert "the whole program" in text
    assert "a note" in text
    assert one.locator("#site-table .verdict").all_inner_texts() == ["pool"]
    one = show(program(), advice={"verdicts": [verdict] + [dont] * 8, "notes": []})
    assert one.locator(".verdicts tbody tr:visible").count() == 5
    one.get_by_role("button", name="Show all 9 verdicts").click()
    assert one.locator(".verdicts tbody tr:visible").count() == 9
    one.get_by_text("what to write").first.click()
    assert one.get_by_text("pool = Pool(thing)").is_visible()


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"&amp; 五"]
)
def test_hostile_names_are_text(show: Show, name: str) -> None:
    found = made([Life(0, 1, size=10**6)], files=[name], function=name, type_=name)
    one = show(found, name=name, no_advice=name)
    assert rows(one) == [name]
    assert one.locator("#name").inner_text() == name
    one.locator("#site-table tr[data-site]").click()
    one.locator(".frame.own").first.hover()
    assert name in one.locator("#tip").inner_text()
    assert one.locator("img").count() == 0
    assert one.locator("script").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(show: Show, scheme: str) -> None:
    one = show(program(), scheme=scheme)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = "rgb(255, 255, 255)"
    assert (one.evaluate(ground) == light) == (scheme == "light")
    one.get_by_role("button", name="Theme").click()  # light
    assert one.evaluate(ground) == light
    one.get_by_role("button", name="Theme").click()
    assert one.evaluate(ground) != light


def test_it_fits_its_window_and_paper(show: Show) -> None:
    one = show(program())
    assert one.evaluate("document.documentElement.scrollWidth") <= WIDTH
    one.emulate_media(media="print")
    assert one.locator("nav").is_hidden()
    assert one.locator("#site-table").is_visible()
    assert one.pdf().startswith(b"%PDF")


def test_nothing_alive_and_nothing_at_all(show: Show) -> None:
    one = show(made([Life(0, 1)]))
    one.get_by_role("radio", name="alive bytes").check(force=True)
    assert "Nothing was alive" in one.locator("#flame-graph").inner_text()
    show(Recording("empty", summary=made([]).summary))
