"""The pages of health in a real browser: nothing is loaded or run, all can be read, on a phone and in the dark, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _health_fleet, _health_page
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._health import build
from tests.support.browser import Tab, chromium
from tests.support.health_samples import HOSTILE, NOW, bad_night, history

# The contrast of each text with what is behind it, as WCAG 2 computes it. Large text may have 3, but is held to 4.5, too.
CONTRAST = """
(() => {
  const parse = text => { const m = text.match(/[\\d.]+/g).map(Number); return {r: m[0], g: m[1], b: m[2], a: m[3] ?? 1}; };
  const linear = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = c => 0.2126 * linear(c.r) + 0.7152 * linear(c.g) + 0.0722 * linear(c.b);
  const over = (top, under) => ({r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a),
                                 b: top.b * top.a + under.b * (1 - top.a), a: 1});
  const behind = element => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(parse(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), {r: 255, g: 255, b: 255, a: 1});
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !element.getClientRects().length || element.closest('svg')) continue;
    const under = behind(element), over_ = over(parse(getComputedStyle(element).color), under);
    const [bright, dark] = [light(over_), light(under)].sort((a, b) => b - a);
    found.push([(bright + 0.05) / (dark + 0.05), text.slice(0, 60), element.className]);
  }
  return found;
})()
"""
# What reaches beyond the window without a box of its own that scrolls.
WIDE = """
[...document.querySelectorAll('body *')].filter(each => each.getBoundingClientRect().right > innerWidth + 0.5 &&
  !each.closest('.scroll, .skip, svg')).map(each => each.outerHTML.slice(0, 120))
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """One browser for all tests of this file."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a server in trouble, and the overview with one more that is down."""
    folder = tmp_path_factory.mktemp("health")
    host = build(HOSTILE, bad_night(), now=NOW, database=HOSTILE, history=history())
    down = build("db2", {"unreachable": True, "msg": HOSTILE}, now=NOW)
    well = build("db3", {**bad_night(), "findings": []}, now=NOW)
    found = {"host": _health_page.texts(host)["html"], "fleet": _health_fleet.texts([host, down, well], NOW)["html"]}
    for name, text in found.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in found}


BOTH = pytest.mark.parametrize("name", ["host", "fleet"])


@BOTH
def test_nothing_is_loaded_and_nothing_complains(tab: Tab, pages: dict[str, Path], name: str) -> None:
    tab.open(pages[name])
    assert tab.requests == [pages[name].as_uri()]
    assert tab.complaints == []
    assert tab.evaluate("performance.getEntriesByType('resource').length") == 0
    assert tab.evaluate("document.querySelectorAll('script, img, iframe, object, [onerror], [onload]').length") == 0


@BOTH
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(tab: Tab, pages: dict[str, Path], name: str, dark: bool) -> None:
    tab.open(pages[name], dark=dark)
    found = tab.evaluate(CONTRAST)
    assert len(found) > 30
    assert [each for each in found if each[0] < 4.5] == []
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(15, 20, 25)" if dark else "rgb(255, 255, 255)")


@BOTH
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_a_page_never_scrolls_sideways_but_its_tables_do(
    tab: Tab, pages: dict[str, Path], name: str, width: int
) -> None:
    tab.open(pages[name], width=width, height=844)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(WIDE) == []
    if width < 600:
        assert tab.evaluate("[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)")


@BOTH
def test_a_screen_reader_finds_its_way(tab: Tab, pages: dict[str, Path], name: str) -> None:
    tab.open(pages[name])
    assert tab.evaluate("document.documentElement.lang") == "en"
    assert tab.evaluate("document.title").startswith("critical: ")
    for landmark in ("header", "main", "footer", "h1"):
        assert tab.evaluate(f"document.querySelectorAll('{landmark}').length") == 1
    assert tab.evaluate("[...document.querySelectorAll('table')].every(e => e.querySelector('th[scope]'))")
    assert tab.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.role === 'region')")
    # A picture has its words: a title of its own, or figures beside it, and then it is hidden.
    charts = "[...document.querySelectorAll('svg')]"
    assert tab.evaluate(f"{charts}.every(e => e.closest('[aria-hidden=true]') || e.querySelector('title'))")
    assert tab.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == tab.evaluate(
        "document.querySelectorAll('[id]').length"
    )
    assert tab.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].every(e => document.querySelector(e.hash))")


def test_charts_are_drawn_to_scale(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["host"])
    fills = "[...document.querySelectorAll('section[aria-labelledby=disk] .bars')][0].querySelectorAll('.fill')"
    shares = tab.evaluate(f"[...{fills}].map(e => e.getBoundingClientRect().width / e.ownerSVGElement.clientWidth)")
    assert [round(share, 2) for share in shares] == [0.96, 0.54]
    stack = "document.querySelector('.stack')"
    parts = tab.evaluate(
        f"[...{stack}.children].slice(1).map(e => e.getBoundingClientRect().width / {stack}.clientWidth)"
    )
    assert [round(part, 2) for part in parts] == [round(count / 97, 2) for count in (40, 31, 16)]
    assert tab.evaluate("document.querySelectorAll('svg.trend').length") == 4
    assert tab.evaluate("[...document.querySelectorAll('svg.trend')].every(e => e.getBoundingClientRect().height > 50)")


def test_the_worst_is_in_sight_at_once_and_it_prints(tab: Tab, pages: dict[str, Path], tmp_path: Path) -> None:
    tab.open(pages["host"], width=390, height=844)
    assert tab.evaluate("document.querySelector('.verdict').getBoundingClientRect().bottom") < 844
    assert tab.evaluate("document.querySelector('.finding .what').getBoundingClientRect().top") < 2 * 844
    tab.screenshot(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").read_bytes().startswith(b"\x89PNG")
    tab.open(pages["host"], dark=True, media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [each for each in tab.evaluate(CONTRAST) if each[0] < 4.5] == []
    assert tab.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert tab.pdf().startswith(b"%PDF-")
