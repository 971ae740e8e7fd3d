"""The page of a run in a browser: everything is drawn, nothing is fetched, nothing is wider than the window."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.chromium import BINARY, Chromium, chromium
from helpers.left_behind import RESULT, leave

from golf_fast.report import write_html

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no Chromium")
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_html(leave(tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_drawn_whole_and_alone(browser: Chromium, page: Path, width: int, scheme: str) -> None:
    browser.open(page, width, scheme=scheme)
    drawn = browser.value(
        "[...document.querySelectorAll('figure svg')].map(plot => { const box = plot.getBoundingClientRect();"
        " return [plot.querySelectorAll('path').length, box.width, box.height, box.right] })"
    )
    assert len(drawn) == 8
    for paths, wide, high, right in drawn:
        assert paths > 3
        assert wide > 250
        assert high > 100
        assert right <= width
    assert browser.requests == [page.resolve().as_uri()], "nothing else is asked for"
    assert browser.errors == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("innerWidth") == width


def test_what_is_too_wide_scrolls_in_its_own_box(browser: Chromium, page: Path) -> None:
    browser.open(page, 390)
    wider = browser.value(
        "[...document.querySelectorAll('.wide')].filter(box => box.scrollWidth > box.clientWidth)"
        ".map(box => getComputedStyle(box).overflowX + box.tabIndex)"
    )
    assert wider
    assert set(wider) == {"auto0"}, "they scroll, with the keyboard too"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(browser: Chromium, page: Path, scheme: str) -> None:
    """4.5 to 1 for every colour of text, on the page, on a card and on the hottest token (WCAG 2.2, 1.4.3)."""
    browser.open(page, 1280, scheme=scheme)
    ratios = browser.value(
        """(() => {
          const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
          const bright = (...layers) => {
            canvas.clearRect(0, 0, 1, 1);
            for (const colour of layers) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
            const light = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
              .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
          };
          const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          const of = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
          const hot = getComputedStyle(document.querySelector('.scale .l7')).backgroundColor;
          const found = {};
          for (const text of ['--ink', '--muted', '--good', '--bad'])
            for (const behind of ['--page', '--card'])
              found[text + behind] = ratio(bright(of(text)), bright(of(behind)));
          found.hot = ratio(bright(of('--ink')), bright(of('--card'), hot));
          return found;
        })()"""
    )
    assert len(ratios) == 9
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


def test_tokens_tell_their_numbers_to_the_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page, 390)
    browser.value("document.querySelector('.tokens span').focus()")
    told = "getComputedStyle(document.activeElement, '::after').content"
    assert "the”  3.97 nats, before adapting 4.22" in browser.value(told)
    browser.press("Tab")
    assert "\\u000a" in browser.value(told) or "\\n" in browser.value(told)
    assert browser.value("document.documentElement.scrollWidth") <= 390, "what is told fits too"
    assert browser.value("document.querySelectorAll('.tokens script').length") == 0


def test_a_run_that_ended_early_has_a_page_that_fits(browser: Chromium, tmp_path: Path) -> None:
    run = leave(tmp_path, RESULT)
    for name in ("result.json", "token_losses", "token_losses_before", "documents.json", "audit.json", "schedule.json"):
        (run / name).unlink()
    browser.open(write_html(run), 390)
    assert browser.value("document.querySelectorAll('figure svg').length") == 5
    assert browser.value("document.documentElement.scrollWidth") <= 390
