"""The page in a real browser: a whole session by mouse, one by keyboard alone, a reload, two listeners at once.

Playwright drives the system's Chromium; it downloads none.
"""

import contextlib
import csv
import io

import pytest
from headless import CHROMIUM
from listener_fixtures import random_model, write_clips

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.listener.question import ENGLISH, read_question
from s3prl_metaperser.listener.server import ListeningServer
from s3prl_metaperser.listener.session import ListeningSession

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: extra `browser`")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

CLASSES = LABEL_SET.classes
#: Without a device for sound a clip plays all the same; ``--mute-audio`` is Playwright's own.
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required")


#: Milliseconds that a test waits for the browser; nothing depends on how long it takes.
PATIENCE = 60_000


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return PersonalizedEmotionRecognizer.load(random_model(tmp_path_factory.mktemp("browser") / "model"))


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def folder(tmp_path):
    write_clips(tmp_path / "clips", 4)
    return tmp_path / "clips"


@contextlib.contextmanager
def served(recognizer, folder, *raters, question=ENGLISH, **options):
    """Sessions of several listeners, and what each is to open."""
    import threading

    asked = read_question(question, recognizer.label_set, **options)
    sessions = [ListeningSession(recognizer, folder, rater=rater, every=2, asked=asked) for rater in raters]
    with ListeningServer(*sessions) as server:
        for session in sessions:
            session.worker.start()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield sessions, server.urls
        server.shutdown()
        for session in sessions:
            session.worker.stop()


@contextlib.contextmanager
def tab(chromium, url, **screen):
    """A page of its own browser context, whose faults are the test's."""
    faults = []
    context = chromium.new_context(**screen)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(url)
    yield page
    assert not faults
    context.close()


def table(folder):
    return list(csv.DictReader(io.StringIO((folder / "ratings.csv").read_text())))


def heard(page):
    playwright.expect(page.locator("#heard")).to_contain_text("✓", timeout=PATIENCE)


def choice(page, name):
    return page.locator(f".choices label:has(input[value={name}])")


def test_a_whole_session_by_mouse_on_a_phone(chromium, recognizer, folder):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with served(recognizer, folder, "anna") as ((session,), (url,)), tab(chromium, url, **phone) as page:
        page.locator("#save").tap(force=True)
        assert page.locator("#said").inner_text().startswith("Tick at least one")
        choice(page, "happy").tap()
        page.locator("#save").tap(force=True)
        assert page.locator("#said").inner_text() == "Not heard to its end yet. Play it first."
        for number in range(4):
            playwright.expect(page.locator("#clip-title")).to_contain_text(f"Clip {number + 1} of 4", timeout=PATIENCE)
            if number == 2:
                page.locator("#skip").tap()
                continue
            page.locator("#play").tap()
            heard(page)
            if not page.locator("input[value=happy]").is_checked():
                choice(page, "happy").tap()
            page.locator("#save").tap()
        page.wait_for_url("**/end")
        assert "3 of 4 clips are labelled" in page.locator("main").inner_text()
        with page.expect_download() as download:
            page.locator("#download").tap()
        assert len(list(csv.DictReader(io.StringIO(download.value.path().read_text())))) == 4
        page.goto(url)
        page.goto(page.url.replace("/end", "/clip/0"))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        sizes = "[...document.querySelectorAll('button, .button, .choices label, .clips a')].map(e => e.offsetHeight)"
        assert min(size for size in page.evaluate(sizes) if size) >= 44
        unnamed = "[...document.querySelectorAll('input:not([type=hidden]), button, a, audio')]"
        unnamed += ".filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
        assert page.evaluate(unnamed) == 0
    assert [(row["label"], row["status"]) for row in table(folder)] == [
        *(("happy", ""), ("happy", ""), ("", "skipped"), ("happy", "")),
    ]
    assert session.view().skipped == {2}


def test_a_whole_session_by_keyboard_alone_with_a_reload_in_the_middle(chromium, recognizer, folder):
    with served(recognizer, folder, "ben", break_every=2) as (_, (url,)), tab(chromium, url) as page:
        press, title = page.keyboard.press, page.locator("#clip-title")
        press("1")
        press("Enter")
        assert page.locator("#said").inner_text() == "Not heard to its end yet. Play it first."
        press("Space")
        heard(page)
        press("r")  # once more
        while not page.evaluate("document.querySelector('audio').ended"):
            page.wait_for_timeout(50)
        page.reload()
        heard(page)  # is known after the reload; ticks are not
        assert not page.locator("input:checked").count()
        press("5")
        press("Enter")
        page.wait_for_url("**/clip/1?last=0")
        press("ArrowLeft")
        page.wait_for_url("**/clip/0")
        assert page.locator("input:checked").get_attribute("value") == CLASSES[4]
        press("ArrowRight")  # a clip that has a label keeps it
        page.wait_for_url("**/clip/1?last=0")
        press("ArrowRight")
        page.wait_for_url("**/clip/2")
        press("Space")
        heard(page)
        press("1")
        press("9")
        press("Enter")
        page.wait_for_url("**/break")
        press("Enter")
        page.wait_for_url("**/clip/3")
        press("b")
        page.wait_for_url("**/break")
        press("Enter")
        page.wait_for_url("**/clip/3")
        press("Space")
        heard(page)
        press("4")
        page.keyboard.press("Enter")
        page.wait_for_url("**/end")
        press("Enter")
        page.wait_for_url("**/clip/0")
        assert title.inner_text().startswith("Clip 1 of 4")
    found = table(folder)
    assert [(row["label"], row["plays"], row["status"]) for row in found] == [
        *((CLASSES[4], "2", ""), ("", "0", "skipped"), (f"{CLASSES[0]};{CLASSES[8]}", "1", ""), (CLASSES[3], "1", "")),
    ]
    assert all(float(row["response_time"]) > 0.3 for row in found if row["label"] and row["plays"] == "1")


def test_two_listeners_at_once_and_clips_that_play_by_themselves(chromium, recognizer, folder):
    with (
        served(recognizer, folder, "anna", "ben", autoplay=True) as ((anna, ben), (first, second)),
        tab(chromium, first) as mine,
        tab(chromium, second) as theirs,
    ):
        for number in range(2):
            for page, key in ((mine, "1"), (theirs, "9")):
                heard(page)
                page.keyboard.press(key)
                page.keyboard.press("Enter")
                page.wait_for_url(f"**/clip/{number + 1}?last={number}")
        adapted = mine.locator("#news").get_by_text("Adapted to 2 of your labels")
        playwright.expect(adapted).to_be_visible(timeout=PATIENCE)
        assert "ben" not in mine.content().replace(str(folder), "")
    found = {(row["rater"], row["file"]): (row["label"], row["plays"]) for row in table(folder)}
    assert found == {
        **{("anna", name): (CLASSES[0], "1") for name in anna.clips[:2]},
        **{("ben", name): (CLASSES[8], "1") for name in ben.clips[:2]},
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(chromium, recognizer, folder, scheme):
    contrast = """() => {
      const light = (c) => c.map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, n) => sum + v * [.2126, .7152, .0722][n], 0);
      const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
      const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
      return [...document.querySelectorAll('body *')].filter((e) => e.offsetParent && [...e.childNodes]
        .some((n) => n.nodeType === 3 && n.textContent.trim())).map((e) => {
          const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(ground(e))].sort((x, y) => y - x);
          return [(a + .05) / (b + .05), e.tagName + ' ' + e.textContent.trim().slice(0, 30)]; })
        .filter(([ratio]) => ratio < 4.5); }"""
    with (
        served(recognizer, folder, "eva", whole=False) as (_, (url,)),
        tab(chromium, url, color_scheme=scheme) as page,
    ):
        for key, then in zip("1234", ("clip/1?last=0", "clip/2?last=1", "clip/3?last=2", "end"), strict=True):
            page.keyboard.press(key)
            page.keyboard.press("Enter")
            page.wait_for_url(f"**/{then}")
        assert page.evaluate(contrast) == []
        page.goto(page.url.replace("/end", "/clip/1"))
        playwright.expect(page.locator(".chart")).to_have_count(1, timeout=PATIENCE)
        assert page.evaluate(contrast) == []
