"""The plan of the house, read from the source: who may import whom, and who may draw."""

import ast
from pathlib import Path

import pytest

import s3prl_metaperser

PACKAGE = Path(s3prl_metaperser.__file__).parent
HOUSE = ("corpora", "protocol", "upstream", "model", "meta", "methods", "evaluation", "report")
#: What any of them may use; the rest wires them together.
SHARED = {
    *("atomic", "audio", "checkpoints", "compat", "demo", "disk", "errors", "hashing", "identity", "loss", "options"),
    *("parallel", "paths", "registry", "resources", "seeding", "yaml_files"),
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


def global_draws(file: Path) -> list[str]:
    """Calls that seed a global random state or draw from it, by their text."""
    seeding = ("random.seed", "np.random.seed", "torch.manual_seed", "torch.cuda.manual_seed_all")
    drawing = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "uniform_", "normal_")
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        own = name.startswith(("rng.", "generator")) or (name and any(k.arg == "generator" for k in node.keywords))
        if name in (*seeding, "nn.Linear") or (name.split(".")[-1] in drawing and not own):
            found.append(name)
    return found


def test_only_the_launcher_touches_the_global_random_state():
    within_fork_rng = {"model.py": ["nn.Linear"], "upstream/micro_batches.py": ["torch.manual_seed"]}
    launcher = {"launcher.py": ["random.seed", "np.random.seed", "torch.manual_seed"]}
    found = {str(file.relative_to(PACKAGE)): global_draws(file) for file in PACKAGE.glob("**/*.py")}
    assert {name: calls for name, calls in found.items() if calls} == {**within_fork_rng, **launcher}
