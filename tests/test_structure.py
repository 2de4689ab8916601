"""The plan of the house, read from the source: who may import whom, and who may draw."""

import ast
import configparser
from fnmatch import fnmatch
from pathlib import Path

import pytest

import s3prl_metaperser
from s3prl_metaperser.corpora import CORPORA, LABEL_SETS
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.generalise import GENERALISERS
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS
from s3prl_metaperser.tasks import TASKS

PACKAGE = Path(s3prl_metaperser.__file__).parent
#: Modules outside the rooms; any room may use those that draw, register, tell of errors or share out work.
LOOSE = {"__init__", "cli", "errors", "parallel", "progress", "registry", "seeding"}
#: The rooms, from left to right: each may import itself, what is to its left, and the loose modules.
ROOMS = (
    "config",
    "storage",
    "s3prl_stack",
    "corpora",
    "demo",
    "protocol",
    "meta",
    "upstream",
    "methods",
    "generalise",
    "evaluation",
    "tasks",
    "report",
    "run",
    "s3prl_plugin",
    "grid",
    "listener",
    "exchange",
    "audit",
    "commands",
)
#: The only rooms that know s3prl.
S3PRL = {"s3prl_stack", "s3prl_plugin"}


def imported(file: Path) -> set[str]:
    """Full names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_of(file: Path) -> set[str]:
    """Rooms and loose modules of the package that a module imports."""
    return {name.split(".")[1] for name in imported(file) if name.startswith("s3prl_metaperser.")}


def test_every_room_has_its_place_and_few_modules_stand_outside():
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_imports_from_the_right(room):
    allowed = {*ROOMS[: ROOMS.index(room) + 1], *LOOSE} - {"cli", "__init__"} | {"__version__"}
    files = sorted((PACKAGE / room).glob("**/*.py"))
    found = {str(file.relative_to(PACKAGE)): rooms_of(file) - allowed for file in files}
    assert {name: rooms for name, rooms in found.items() if rooms} == {}


def module_names(path: Path) -> str:
    """``s3prl_metaperser.run.cell`` of its file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_needs_one_that_needs_it():
    files = {module_names(path): path for path in PACKAGE.glob("**/*.py")}
    needs = {}
    for module, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typing = {id(n) for top in ast.walk(tree) if isinstance(top, ast.If) for n in ast.walk(top)}
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        needs[module] = {name for name in names & files.keys() if not f"{module}.".startswith(f"{name}.")}
    del needs[PACKAGE.name]  # the public face imports what it shows when it is asked for
    while free := [module for module, others in needs.items() if not others & needs.keys()]:
        needs = {module: others for module, others in needs.items() if module not in free}
    assert not needs, f"in a circle, or behind one: {sorted(needs)}"


def test_only_the_two_s3prl_rooms_import_s3prl():
    files = [file for file in PACKAGE.glob("**/*.py") if file.relative_to(PACKAGE).parts[0] not in S3PRL]
    found = {
        str(file.relative_to(PACKAGE)): {n for n in imported(file) if n.split(".")[0] == "s3prl"} for file in files
    }
    assert {name: names for name, names in found.items() if names} == {}


def test_the_mathematics_sees_no_options():
    files = sorted((PACKAGE / "meta").glob("**/*.py"))
    found = {file.name: rooms_of(file) - {"meta", "errors", "seeding", "parallel"} for file in files}
    assert {name: rooms for name, rooms in found.items() if rooms} == {}


def global_draws(file: Path) -> list[str]:
    """Calls that seed a global random state or draw from it, by their text."""
    seeding = ("random.seed", "np.random.seed", "torch.manual_seed", "torch.cuda.manual_seed_all")
    seeding += ("torch.default_generator.manual_seed",)
    drawing = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "uniform_", "normal_")
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        own = name.startswith(("rng.", "generator")) or (name and any(k.arg == "generator" for k in node.keywords))
        if name in (*seeding, "nn.Linear") or (name.split(".")[-1] in drawing and not own):
            found.append(name)
    return found


def test_only_the_start_of_a_run_touches_the_global_random_state():
    within_fork_rng = {"meta/model.py": ["nn.Linear"], "meta/masks.py": ["torch.default_generator.manual_seed"]}
    start_of_a_run = {"run/cell.py": ["random.seed", "np.random.seed", "torch.manual_seed"]}
    found = {str(file.relative_to(PACKAGE)): global_draws(file) for file in PACKAGE.glob("**/*.py")}
    assert {name: calls for name, calls in found.items() if calls} == {**within_fork_rng, **start_of_a_run}


# -- what is chosen by name is named in one place ------------------------------------------------------------------

#: Where a room's registry is filled.
TABLES = {
    *("corpora/__init__.py", "corpora/label_sets.py", "methods/__init__.py", "evaluation/metrics.py"),
    "generalise/__init__.py",
    "tasks/__init__.py",
}
#: The same word, said for another reason.
OTHER_MEANINGS = {
    # a second implementation of the three, on purpose: what is recomputed must not be what computed it
    "audit/one.py": {"macro_f1", "micro_f1", "unweighted_accuracy"},
    "demo/ceilings.py": {"macro_f1", "micro_f1", "unweighted_accuracy"},  # keys of the truth card, whose bytes stay
    "exchange/task_export.py": {"accuracy"},  # Dynamic-SUPERB's word for its score
    "corpora/speechocean762.py": {"accuracy"},  # of a learner's sounds: the corpus's name of a score
    "config/domain_options.py": {"demo_corpora"},  # the default corpus of domain generalisation
    "config/options.py": {"demo"},  # the configuration's default corpus
    "evaluation/result.py": {"personalized_emotion"},  # what files of versions without tasks are results of
    "s3prl_plugin/doctor.py": {"demo"},  # the extra of that name
    "commands/demo.py": {"demo"},  # the command of that name
}


def own_files() -> dict[str, set[str]]:
    """Every registered name, and the files that may say it besides the tables."""
    found: dict[str, set[str]] = {name: set() for name in METRICS}
    for registry in (CORPORA, LABEL_SETS, SYSTEMS, FINETUNED_SYSTEMS, GENERALISERS, TASKS):
        for name in registry:
            module = registry.module(name).removeprefix("s3prl_metaperser.")
            found.setdefault(name, set()).add(module.replace(".", "/") + ".py")
    return found


def test_names_of_corpora_systems_metrics_and_tasks_are_said_in_their_own_files_alone():
    own, said = own_files(), {}
    for path in PACKAGE.glob("**/*.py"):
        file = str(path.relative_to(PACKAGE))
        nodes = [] if file in TABLES else ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        named = texts & own.keys() - OTHER_MEANINGS.get(file, set())
        if elsewhere := {name for name in named if file not in own[name]}:
            said[file] = elsewhere
    assert {file: names for file, names in said.items() if names} == {}, "take the fact from its registered object"


def test_nobody_but_its_class_looks_into_a_result_file():
    keys = {"cell", "episodes", "hashes", "metrics", "selected_step", "trajectory", "tuned", "peak_memory_bytes"}
    found = {}
    for path in PACKAGE.glob("**/*.py"):
        nodes = (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Subscript))
        said = {n.slice.value for n in nodes if isinstance(n.slice, ast.Constant) and n.slice.value in keys}
        if said:
            found[str(path.relative_to(PACKAGE))] = said
    assert set(found) <= {"evaluation/result.py"}, found


def test_what_is_no_python_file_is_package_data():
    setup = configparser.ConfigParser()
    setup.read(PACKAGE.parent / "setup.cfg")
    patterns = {name: given.split() for name, given in setup["options.package_data"].items()}
    files = [p for p in PACKAGE.glob("**/*") if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts]
    assert {"page.html", "report.css", "recipe.yaml", "Snakefile"} <= {path.name for path in files}
    for path in files:
        parts = path.relative_to(PACKAGE).parts
        packages = {".".join((PACKAGE.name, *parts[:n])): "/".join(parts[n:]) for n in range(len(parts))}
        fits = (fnmatch(inside, each) for name, inside in packages.items() for each in patterns.get(name, ()))
        assert any(fits), f"{path.relative_to(PACKAGE)} is not in setup.cfg's package_data"


def test_every_room_is_installed():
    setup = configparser.ConfigParser()
    setup.read(PACKAGE.parent / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    folders = {path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.glob("**/__init__.py")}
    assert {".".join(folder.parts) for folder in folders} <= listed
