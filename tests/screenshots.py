"""Pictures of a page as people see it: wide and on a phone, light and dark. Look at them after every change to a page.

python tests/screenshots.py REPORT/report.html PICTURES
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from headless import CHROMIUM, Page, browser

#: Name -> width and height of the window.
WINDOWS = {"1280": (1280, 800), "390": (390, 844)}
#: What is measured of a page, as an expression of its own language.
MEASURES = {
    "height": "document.documentElement.scrollHeight",
    "width": "document.documentElement.scrollWidth",
    "first figure ends at": "Math.round((document.querySelector('.panels') || document.body).getBoundingClientRect()"
    ".bottom + scrollY)",
}


def pictures(page: Page, url: str, out: Path, name: str) -> dict[str, dict[str, float]]:
    """Four pictures of the whole page; window -> what was measured there."""
    found = {}
    for window, (width, height) in WINDOWS.items():
        for dark in (False, True):
            page.screen(width, height, dark=dark, touch=window == "390")
            page.open(url)
            page.picture(out / f"{name}_{window}_{'dark' if dark else 'light'}.png")
        found[window] = {what: page.run(script) for what, script in MEASURES.items()}
    return found


#: Numbers of labels that the listening page is shown with.
LABELS = (0, 12, 32)


def listening(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, address) of a session's page, labelled further at each."""
    from listener_fixtures import random_model, write_clips
    from test_listening_page import CLASSES, Visitor

    from s3prl_metaperser import PersonalizedEmotionRecognizer
    from s3prl_metaperser.listener.session import ListeningSession

    write_clips(folder / "clips", LABELS[-1] + 4)
    model = PersonalizedEmotionRecognizer.load(random_model(folder / "model"))
    visitor = Visitor(ListeningSession(model, folder / "clips"))
    try:
        done = 0
        for count in LABELS:
            for index in range(done, count):
                visitor.tick(index, CLASSES[index % len(CLASSES)])
            done = count
            visitor.settle()
            yield f"listening_{count}", visitor.server.urls[0]
    finally:
        visitor.close()


def main(arguments: list[str] | None = None) -> int:
    """Take them, and print the measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", help="a file, or: listening")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args(arguments)
    if CHROMIUM is None:
        print("There is no Chromium here; install it (Debian: chromium).", file=sys.stderr)
        return 2
    if asked.page != "listening" and not Path(asked.page).is_file():
        parser.error(f"{asked.page}: no such file")
    asked.out.mkdir(parents=True, exist_ok=True)
    with browser() as page, tempfile.TemporaryDirectory() as place:
        path = Path(asked.page).resolve()
        shown = listening(Path(place)) if asked.page == "listening" else [(path.stem, path.as_uri())]
        for name, address in shown:
            for window, found in pictures(page, address, asked.out, name).items():
                print(name, window, ", ".join(f"{what} {number}" for what, number in found.items()), flush=True)
        print("\n".join(page.console))
    return 0


if __name__ == "__main__":
    sys.exit(main())
