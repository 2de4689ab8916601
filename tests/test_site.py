"""The documentation site builds offline without a warning, and its reference pages name everything there is."""

from __future__ import annotations

import argparse
import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from s3prl_metaperser import __all__ as public
from s3prl_metaperser.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
MISSING = [name for name in ("mkdocs", "material", "mkdocstrings") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra docs)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(
        line, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "WARNING" not in done.stderr
    return folder


def words(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_the_command_line_page_has_every_command_and_option(site):
    said = words(site / "ref" / "cli.html")
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        assert f"\n{name}" in said or f" {name}" in said
        options = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
        assert [option for option in options if option not in said] == [], name


def keys(section: object, prefix: str = "") -> list[str]:
    if not isinstance(section, dict) or not section:
        return [prefix.rstrip(".")]
    return [key for name, below in section.items() for key in keys(below, f"{prefix}{name}.")]


def test_the_options_page_has_every_key_of_the_configuration_files(site):
    said = words(site / "ref" / "config.html").split()
    for path in ROOT.glob("downstream/*/config*.yaml"):
        assert set(keys(yaml.safe_load(path.read_text(encoding="utf-8")))) <= set(said)


def test_the_python_page_has_every_public_name_and_no_page_fetches_anything(site):
    said = words(site / "ref" / "api.html")
    assert [name for name in public if name not in said and name != "__version__"] == []
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', text), page


def test_every_link_inside_the_site_leads_to_a_file_of_it(site):
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]  # which has a server's addresses
    for page in pages:
        links = re.findall(r'<a[^>]+href="([^"#?]+)', page.read_text(encoding="utf-8"))
        lost = [each for each in links if "://" not in each and not (page.parent / unquote(each)).exists()]
        assert [each for each in lost if each != "." and not each.startswith("mailto:")] == [], page.name


def test_every_page_of_docs_has_a_place_in_the_navigation(site):
    first = (site / "index.html").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")]
    assert [page for page in pages if f'href="{page}"' not in first] == []
