"""The report in a real browser, opened from disk: search, filters, links, keyboard, phones, dark, print, no script."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from figures.report import write_report
from tests.figures.reports import CLAIMS, DATA, FIGURE, PROVENANCE, write_figures

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PHONE = {"width": 360, "height": 740}
NAMES = [claim["id"] for claim in CLAIMS]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Address of a report on disk."""
    folder = write_figures(tmp_path_factory.mktemp("report"))
    return write_report(CLAIMS, folder, PROVENANCE).as_uri()


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests of this file, with a new profile of its own."""
    if CHROMIUM is None:
        pytest.skip("needs the command chromium (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, address, expected=None, **settings) -> Generator:
    """Open a page; whatever it says in the console, raises, or asks the network for, is a failure unless expected."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or complaints.append(r.url))
    page.goto(address)
    yield page
    context.close()
    assert [text for text in complaints if expected is None or expected not in text] == []


@pytest.fixture
def page(browser, report):
    """The report on a desktop."""
    with opened(browser, report) as page:
        yield page


def shown(page):
    """Return the claims that are seen, which the overview must list and the page must count."""
    names = page.eval_on_selector_all(".claim", "all => all.filter(e => e.checkVisibility()).map(e => e.id)")
    listed = page.eval_on_selector_all(
        ".overview li", "all => all.filter(e => e.checkVisibility()).map(e => e.dataset.claim)"
    )
    assert names == listed
    assert page.locator("#page-count").inner_text() == f"{len(names)} of {len(CLAIMS)} claims"
    assert page.get_by_text("No claim has all of this.").is_visible() == (not names)
    return names


def focused(page):
    """Return what has the keyboard: the id of the element, or its text."""
    return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")


def test_opens_from_disk_with_every_claim_and_picture(page):
    assert page.title() == "relratio: claims and their evidence"
    assert shown(page) == NAMES
    pictures = page.eval_on_selector_all("figure img", "all => all.map(e => [e.decode() && 1, e.naturalWidth, e.alt])")
    assert len(pictures) == 1 + sum(claim["figure"] == FIGURE for claim in CLAIMS)
    assert all(width == 400 and alt.startswith("Plot: ") for _, width, alt in pictures)


def test_page_may_not_use_the_network(browser, report):
    tries = """async (address) => {
        const broken = [];
        addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
        await fetch(address).catch(() => 0);
        const image = new Image();
        await new Promise((done) => { image.onerror = done; image.src = address; });
        const script = document.createElement("script");
        await new Promise((done) => { script.onerror = done; script.src = address; document.body.append(script); });
        return broken;
    }"""
    with opened(browser, report, expected="report.invalid") as page:
        # .invalid names no host anywhere (RFC 2606); the policy stops even the look-up.
        assert page.evaluate(tries, "http://report.invalid/x") == ["connect-src", "img-src", "script-src-elem"]


def test_search_finds_all_words_anywhere_in_a_claim(page):
    searches = {
        "exceeds": ["ratio-bounded"],
        "2604.04410": ["tighter"],
        "law LANGUAGE": ["language-models"],
        "naive": ["naive-cafe"],
        "world number 39": ["consistent"],
        "nothing of this kind": [],
        "  ": NAMES,
    }
    for words, names in searches.items():
        page.get_by_label("Search").fill(words)
        assert shown(page) == names
    page.get_by_label("Search").fill("exceeds")
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.querySelectorAll('.claim[hidden]').length === 0")
    assert shown(page) == NAMES and page.get_by_label("Search").input_value() == ""


def test_filters_by_verdict_and_source_combine_with_search(page):
    page.get_by_label("supported", exact=True).uncheck()
    assert shown(page) == ["tighter", "stable", "language-models", "not-drawn"]
    page.get_by_label("Source").select_option("ours")
    assert shown(page) == ["language-models", "not-drawn"]
    page.get_by_label("Search").fill("figure")
    assert shown(page) == ["not-drawn"]
    page.get_by_label("not run", exact=True).uncheck()
    assert shown(page) == []
    page.keyboard.press("Escape")
    assert shown(page) == NAMES


def test_deep_link_opens_at_its_claim_even_if_filters_hide_it(browser, report):
    with opened(browser, f"{report}#stable") as page:
        assert focused(page) == "stable"
        page.locator("#stable").get_by_role("link", name="How to read it").click()
        assert focused(page) == f"figure-{FIGURE}"
        page.go_back()
        page.wait_for_function("Math.abs(document.querySelector('#stable').getBoundingClientRect().top) < 40")
        page.get_by_label("Search").fill("exceeds")
        assert shown(page) == ["ratio-bounded"]
        page.evaluate("location.hash = '#weighting'")
        page.wait_for_function("document.activeElement.id === 'weighting'")
        assert shown(page) == NAMES
        page.evaluate("location.hash = '#no-such-claim'")
        assert shown(page) == NAMES


def test_keyboard_alone_reaches_search_claims_and_enlarged_figures(page):
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the claims"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#page-claims"
    page.keyboard.press("/")
    assert focused(page) == "page-search"
    page.keyboard.type("1/alpha/")
    sync_api.expect(page.get_by_label("Search")).to_have_value("1/alpha/")  # there a letter like any other
    page.keyboard.press("Backspace")
    assert shown(page) == ["ratio-bounded"]
    button = page.locator("#ratio-bounded").get_by_role("button", name="Enlarge")
    for _ in range(20):
        page.keyboard.press("Tab")
        if button.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    picture = page.locator("dialog img")
    fit = picture.bounding_box()["width"]
    page.keyboard.press("+")
    assert picture.bounding_box()["width"] == pytest.approx(1.5 * fit)
    page.keyboard.press("-")
    page.keyboard.press("-")  # never smaller than the window
    assert picture.bounding_box()["width"] == pytest.approx(fit)
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert button.evaluate("e => e === document.activeElement")
    assert shown(page) == ["ratio-bounded"]  # Esc closed the figure and no more


def test_enlarged_figure_obeys_the_mouse(page):
    page.locator("#weighting figure img").click()
    picture = page.locator("dialog img")
    assert picture.get_attribute("alt").startswith("Plot: ")
    fit = picture.bounding_box()["width"]
    page.get_by_role("button", name="Larger").click()
    page.get_by_role("button", name="Larger").click()
    page.get_by_role("button", name="Smaller").click()
    assert picture.bounding_box()["width"] == pytest.approx(1.5 * fit)
    page.get_by_role("button", name="Fit").click()
    assert picture.bounding_box()["width"] == pytest.approx(fit)
    page.get_by_role("button", name="Close").click()
    assert not page.locator("dialog").is_visible()


def test_plotted_data_can_be_saved(page, tmp_path):
    with page.expect_download() as download:
        page.locator("#ratio-bounded").get_by_role("link", name="Plotted data (CSV)").click()
    download.value.save_as(tmp_path / "saved")
    assert download.value.suggested_filename == f"{FIGURE}.csv"
    assert (tmp_path / "saved").read_text(encoding="utf-8") == DATA


_WIDE = """width => [...document.querySelectorAll("main *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return e.checkVisibility() && !e.closest("thead") && (box.left < 0 || box.right > width);
}).map((e) => e.outerHTML.slice(0, 80))"""


def test_phone_never_scrolls_sideways(browser, report):
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with opened(browser, report, **phone) as page:
        page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        for width in (320, 360):
            page.set_viewport_size(PHONE | {"width": width})
            assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
            assert page.evaluate(_WIDE, width) == []
        cell = page.locator("#consistent td").nth(3)
        assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"Estimate"'
        heights = page.eval_on_selector_all("button, select, input[type=search]", "all => all.map(e => e.offsetHeight)")
        assert min(height for height in heights if height) >= 40
        page.locator("#weighting").get_by_role("button", name="Enlarge").tap()
        page.get_by_role("button", name="Larger").tap()
        assert page.locator("dialog .pane").evaluate("e => e.scrollWidth > e.clientWidth")
        page.get_by_role("button", name="Close").tap()


_CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const known = {};
    const light = (colour) => known[colour] ??= measure(colour);
    const measure = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const back = (e) => {
        const colour = getComputedStyle(e).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" && e.parentElement ? back(e.parentElement) : colour;
    };
    const texts = [...document.querySelectorAll("body *:not(script)")]
        .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
    return texts.map((e) => {
        const [dark, bright] = [light(getComputedStyle(e).color), light(back(e))].sort((a, b) => a - b);
        return [(bright + 0.05) / (dark + 0.05), e.outerHTML.slice(0, 80)];
    }).sort((a, b) => a[0] - b[0])[0];
}"""


def test_texts_stand_out_by_day_and_by_night(browser, report):
    pages = []
    for scheme in ("light", "dark"):
        with opened(browser, report, color_scheme=scheme) as page:
            contrast, element = page.evaluate(_CONTRAST)
            assert contrast >= 4.5, element  # WCAG 2.2, 1.4.3 (AA)
            pages.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert pages[0] != pages[1]


def test_paper_shows_what_was_folded_and_white_ground(browser, report):
    with opened(browser, report, color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator("#page-filters").is_visible()
        assert page.locator("figure img:visible").count() == 1  # once on paper; claims name it
        assert page.locator("#weighting").get_by_text(f"Figure: {FIGURE}").is_visible()
        folded = page.locator("details:not([open])").count()
        assert folded
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not([open])").count() == folded


def test_without_scripts_everything_can_be_read(browser, report):
    with opened(browser, report, java_script_enabled=False) as page:
        assert page.locator(".claim:visible").count() == len(CLAIMS)
        assert not page.locator("#page-filters").is_visible() and page.locator(".enlarge:visible").count() == 0
        assert page.locator("#weighting").get_by_role("link", name=FIGURE).get_attribute("href") == f"#figure-{FIGURE}"
