"""Every row of docs/reliability.md names tests, and these exist."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"


def rows() -> list[str]:
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| (?!---)", line)]


@functools.cache
def existing() -> set[str]:
    found = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                found.add(node.name)
    return found


def test_the_table_has_rows():
    assert len(rows()) > 40


@pytest.mark.parametrize("row", [r for r in rows() if "shown by" not in r], ids=lambda row: row[2:50])
def test_each_row_names_tests_that_exist(row):
    named = re.findall(r"`(test_\w+)`", row)
    assert named, row
    assert set(named) <= existing()


def test_every_promise_of_security_md_links_to_the_table():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "docs/reliability.md" in text
    assert "SECURITY.md" in PAGE.read_text(encoding="utf-8")
