"""The plan of the house: who may import whom, read from the source."""

import ast
from pathlib import Path

import pytest

import s3prl_metaperser

PACKAGE = Path(s3prl_metaperser.__file__).parent
HOUSE = ("corpora", "protocol", "upstream", "model", "meta", "methods", "evaluation", "report")
#: What any of them may use; the rest wires them together.
SHARED = {
    *("atomic", "audio", "checkpoints", "compat", "demo", "disk", "errors", "hashing", "identity", "loss", "options"),
    *("parallel", "registry", "resources", "seeding", "yaml_files"),
}


def part(module: str) -> str:
    """``s3prl_metaperser.meta.adjoint`` -> ``meta``."""
    return module.split(".")[1]


def imported(file: Path) -> set[str]:
    """Parts of the package that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {part(name) for name in names if name.startswith("s3prl_metaperser.")}


@pytest.mark.parametrize("owner", HOUSE)
def test_nobody_imports_from_the_right_or_from_what_wires_them_together(owner):
    files = sorted((PACKAGE / owner).glob("**/*.py")) or [PACKAGE / f"{owner}.py"]
    allowed = {*HOUSE[: HOUSE.index(owner) + 1], *SHARED}
    assert {str(file.relative_to(PACKAGE)): imported(file) - allowed for file in files} == {
        str(file.relative_to(PACKAGE)): set() for file in files
    }
