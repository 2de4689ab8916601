"""A system of another package (tests/plugin_package): one file and one entry point, both scopes, grid and report."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest
from small_grid import results_below, write_grid
from test_more_systems import checkpoint, finetuned, result  # noqa: F401 (checkpoint is a fixture)
from test_systems import make, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.cells import expand
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS, facts_of, systems
from s3prl_metaperser.methods.facts import Facts
from s3prl_metaperser.report.drawing import colours
from s3prl_metaperser.s3prl_plugin import launcher

PLUGIN = Path(__file__).parent / "plugin_package"
NAME = "Prototypes"

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")


@contextlib.contextmanager
def entry_points_read_again():
    with SYSTEMS.read_again(), FINETUNED_SYSTEMS.read_again():
        yield


@pytest.fixture
def installed(monkeypatch):
    """The package as pip would leave it: on the path, with its dist-info."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    with entry_points_read_again():
        yield
    sys.modules.pop("proto_net", None)


def test_it_is_listed_in_both_scopes_and_not_without_its_package(installed, capsys):
    assert main(["list", "systems"]) == 0
    assert capsys.readouterr().out.count(f"{NAME:<22} from proto-net") == 2


def test_without_its_package_it_is_unknown():
    with pytest.raises(UserError, match=f"Unknown system '{NAME}'"):
        SYSTEMS.get(NAME)


def test_it_is_softmax_of_squared_distances_to_weighted_means(installed, make):  # noqa: F811
    """Against loops in float64, from the parameters of Linear-Zero."""
    *_, task = make()
    system, state, _ = trained(NAME, task)
    episode = task.validation_episodes[0]
    head = {n: p.detach().double().numpy() for n, p in trained("Linear-Zero", task)[1].parameters().items()}
    mixing = np.exp(head["weights"]) / np.exp(head["weights"]).sum()

    def embed(x):
        return np.einsum("l,kld->kd", mixing, x.double().numpy()) @ head["projector.weight"].T + head["projector.bias"]

    hidden, targets = embed(episode.support.features), episode.support.targets.double().numpy()
    expected = []
    for query in embed(episode.query):
        distances = []
        for share in targets.T:
            prototype = sum(s * h for s, h in zip(share, hidden, strict=True)) / sum(share)
            distances.append(sum((q - p) ** 2 for q, p in zip(query, prototype, strict=True)))
        expected.append(np.exp(-np.array(distances)) / np.exp(-np.array(distances)).sum())
    found = system.predict(state, system.adapt(state, episode.support), episode.query)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_its_facts_say_which_options_run_its_cells_again(installed, tmp_path):
    def identity(*options):
        systems = {"frozen": [NAME], "finetuned": [NAME]}
        grid = read_grid(write_grid(tmp_path, *options, corpus="iemocap", systems=systems))
        return {cell.scope: cell.identity for cell in expand(grid)}

    before = identity()
    for option in ("downstream_expert.fewrc.lr=0.5", "downstream_expert.metarc.inner_lr=0.5", "optimizer.lr=0.5"):
        assert identity(option) == before
    changed = identity("downstream_expert.initrc.lr=0.5")
    assert all(changed[scope] != before[scope] for scope in ("frozen", "finetuned"))
    tuned = identity("downstream_expert.tunerc.adapt=top:1")
    assert {scope: tuned[scope] == before[scope] for scope in before} == {"frozen": True, "finetuned": False}


def test_a_grid_runs_it_and_the_report_shows_it_in_its_own_colour(installed, tmp_path, capsys):
    grid = write_grid(tmp_path, systems={"frozen": ["Linear-Zero", NAME]})
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    assert [content["cell"]["system"] for content in results_below(tmp_path / "results").values()].count(NAME) == 1
    assert main(["report", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 0
    (table,) = (tmp_path / "report" / "tables").glob("table1*.csv")
    assert any(NAME in line for line in table.read_text(encoding="utf-8").splitlines())
    assert facts_of(NAME).colour == colours(["Random", NAME])[NAME] == "#6b8e23"


def test_it_trains_and_evaluates_with_f(installed, checkpoint, tmp_path):  # noqa: F811
    folder = tmp_path / "exp"
    assert launcher.main(finetuned(folder, checkpoint, NAME)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    content = result(folder)
    assert (content["cell"]["system"], content["cell"]["scope"]) == (NAME, "finetuned")
    found = np.array([row for episode in content["episodes"] for row in episode["probabilities"]])
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert found.std(0).max() > 0


def write_package(site, target, group="s3prl_metaperser.systems"):
    info = site / "other-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nOther = {target}\n")


@pytest.mark.parametrize(
    ("declares", "serves"),
    [
        ("", {"frozen"}),
        ("facts = Facts(scopes=('finetuned',))", {"finetuned"}),
        ("facts = Facts()", {"frozen", "finetuned"}),
    ],
)
def test_a_class_serves_the_scopes_that_its_facts_name(tmp_path, monkeypatch, declares, serves):
    lines = ["from s3prl_metaperser.methods.base import System", "from s3prl_metaperser.methods.facts import Facts"]
    (tmp_path / "other.py").write_text("\n".join([*lines, "class Other(System):", f"    {declares or 'pass'}", ""]))
    write_package(tmp_path, "other:Other")
    monkeypatch.syspath_prepend(str(tmp_path))
    with entry_points_read_again():
        for scope in ("frozen", "finetuned"):
            if scope in serves:
                assert systems(scope == "finetuned").get("Other").scope == scope
            else:
                with pytest.raises(UserError, match=f"Other does not serve the scope {scope}"):
                    systems(scope == "finetuned").get("Other")
    sys.modules.pop("other")


def test_a_system_without_facts_goes_by_everything_and_shares_nothing():
    config = Options().as_config()
    assert Facts().matters("downstream_expert.fewrc.lr", "frozen", config)
    assert not Facts().shares_initialisation(config)
    assert facts_of("not installed here") == Facts()


def test_it_is_one_short_file_and_one_entry_point():
    assert len((PLUGIN / "proto_net.py").read_text(encoding="utf-8").splitlines()) <= 60
    points = (PLUGIN / "proto_net-0.1.dist-info" / "entry_points.txt").read_text(encoding="utf-8")
    assert points.count("=") == 1
