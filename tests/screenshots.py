"""Pictures of a page as people see it: wide and on a phone, light and dark. Look at them after every change to a page.

python tests/screenshots.py REPORT/report.html PICTURES
"""

from __future__ import annotations

import argparse
import sys
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


def main(arguments: list[str] | None = None) -> int:
    """Take them, and print the measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args(arguments)
    if CHROMIUM is None:
        print("There is no Chromium here; install it (Debian: chromium).", file=sys.stderr)
        return 2
    asked.out.mkdir(parents=True, exist_ok=True)
    with browser() as page:
        for window, found in pictures(page, asked.page.resolve().as_uri(), asked.out, asked.page.stem).items():
            print(window, ", ".join(f"{what} {number}" for what, number in found.items()))
        print("\n".join(page.console))
    return 0


if __name__ == "__main__":
    sys.exit(main())
