"""A system with its outputs adapted takes over the state of the system as which it is trained, to the bit."""

import shutil

import pytest
import torch
from small_demo import overrides

from s3prl_metaperser.config.options import Options, merged
from s3prl_metaperser.config.override import parse_override
from s3prl_metaperser.grid.relevance import nested
from s3prl_metaperser.methods import trained_as
from s3prl_metaperser.run import cell as cell_module
from s3prl_metaperser.run.cell import Record, run_cell
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.storage.checkpoints import read_checkpoint


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "cache"


@pytest.fixture
def small(tmp_path, cache, monkeypatch):
    """(system, folder, other options) -> a cell's result, its record, and how often it was trained."""
    monkeypatch.setenv("METAPERSER_CACHE", str(cache))
    shutil.rmtree(cache / "trained", ignore_errors=True)
    trainings = []
    original = cell_module.train
    monkeypatch.setattr(cell_module, "train", lambda *given: trainings.append(given) or original(*given))

    def run(system, folder, *more):
        config = {}
        for path, value in parse_override(overrides("downstream_expert.evalrc.trajectory=[]", *more)):
            config = merged(config, nested({".".join(path[1:]): value}))
        trainings.clear()
        record = Record()
        chosen = Options.from_config(config)
        result = run_cell(
            CellOptions(UpstreamOptions("fbank_no_cmvn"), tmp_path / folder, chosen, system), record=record
        )
        return result, record, len(trainings)

    return run


def test_what_a_system_with_adapted_outputs_takes_over_is_what_it_would_train(small, cache, tmp_path):
    plain, _, trained = small("Meta-PerSER", "plain")
    assert trained == 1
    taken, record, trained = small("Meta-PerSER+bias", "taken")
    assert (trained, record.resumed_at) == (0, 12)
    assert taken.hashes.parameters == plain.hashes.parameters
    shutil.rmtree(cache / "trained")
    anew, record, trained = small("Meta-PerSER+bias", "anew")
    assert (trained, record.resumed_at) == (1, 0)
    assert (anew.episodes, anew.metrics, anew.selected, anew.hashes) == (
        taken.episodes, taken.metrics, taken.selected, taken.hashes,
    )  # fmt: skip
    names = [path.name for path in sorted((tmp_path / "anew").glob("*.ckpt"))]
    assert names == [path.name for path in sorted((tmp_path / "taken").glob("*.ckpt"))]
    for name in names:
        one, other = (read_checkpoint(tmp_path / folder / name) for folder in ("anew", "taken"))
        assert one.keys() == other.keys()
        assert (one["System"], one["Step"], one["Best"]) == (other["System"], other["Step"], other["Best"])
        assert all(torch.equal(one["Downstream"][key], value) for key, value in other["Downstream"].items())
    assert small("Meta-PerSER", "plain again")[2] == 1, "a system under its own name is always trained"


def test_nothing_is_taken_over_that_was_trained_otherwise_or_is_damaged(small, tmp_path):
    small("Linear-Few", "plain")
    assert small("Linear-Few+bias", "one")[2] == 0
    assert small("Linear-Few+bias", "other", "downstream_expert.initrc.lr=0.01")[2] == 1
    assert small("Linear-Few+map", "protocol", "downstream_expert.evalrc.protocol=tuned")[2] == 0
    for folder in ("plain", "one", "protocol"):
        best = tmp_path / folder / "dev-best.ckpt"
        best.write_bytes(best.read_bytes()[:-200])
    assert small("Linear-Few+map", "damaged")[2] == 1


def test_the_system_as_which_one_is_trained_is_read_from_its_name():
    assert trained_as("Meta-PerSER:INI+DA+tilt+map") == "Meta-PerSER:INI+DA"
    assert trained_as("Somebodys-System") == "Somebodys-System"
