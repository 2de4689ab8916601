"""The documents: links lead somewhere, the README is short, and the picture shows the rooms that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from test_structure import ROOMS

from s3prl_metaperser import __version__
from s3prl_metaperser.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PARSER = build_parser()
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_that_the_parser_takes(page):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    for line in re.findall(r"(?:^|[\s/;(])metaperser ([^\n;|&]*)", text):
        PARSER.parse_args(shlex.split(line, comments=True))


def test_every_message_of_the_page_on_trouble_is_one_of_the_package():
    page = (ROOT / "docs/do/trouble.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("s3prl_metaperser/**/*.py"))
    source += "No space left, Read-only file system"  # the system's own
    varies = r"\.\.\.|'?\b[A-Z]\b'?|system|wavlm_base|HOST|FILE|praat-\w+"
    messages = re.findall(r"^\| `([^`]+)`", page, flags=re.MULTILINE)
    fixed = [max((part.strip(" .?:(") for part in re.split(varies, each)), key=len) for each in messages]
    assert len(fixed) > 10
    assert [each for each in fixed if each not in source] == []


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
