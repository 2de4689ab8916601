"""The documents: links lead somewhere, the README is short, and the picture shows the rooms that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from test_structure import ROOMS

from s3prl_metaperser import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What ``#`` links to a page may name: its headings as forges spell them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_or_heading(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}: no such heading"


def test_the_readme_is_short_and_says_first_that_it_runs_where_s3prl_alone_does_not():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert "where s3prl 0.4.18 alone does not import" in " ".join(lines[:8])


def test_the_citation_the_changes_and_the_package_are_of_one_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    heading = re.search(
        r"^## (\d\S*) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert heading is not None
    assert (cited["version"], str(cited["date-released"])) == heading.groups() == (__version__, heading[2])
    assert [len(each["authors"]) for each in cited["references"]] == [5, 20, 3]
    assert all(each["year"] for each in cited["references"])


def test_the_picture_and_the_table_of_the_rooms_show_all_of_them():
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert set(re.findall(r'class="t">(\w+)<', picture)) == set(ROOMS)
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(ROOMS)
