"""Batches of several sources: who is in one, and that a step says it alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from s3prl_metaperser.config.domain_options import DomainOptions
from s3prl_metaperser.config.options import flat
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise import GENERALISERS, nulls
from s3prl_metaperser.generalise.base import Sources
from s3prl_metaperser.generalise.model import PooledModel
from s3prl_metaperser.grid.cells import expand
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.protocol.domain_batches import DomainBatch, DomainSampler
from s3prl_metaperser.protocol.domains import domains_of
from s3prl_metaperser.seeding import torch_generator
from s3prl_metaperser.storage.resources import downstream_folder

ROWS = {"small": range(5), "large": range(5, 45), "middle": range(45, 58)}
OWNER = {row: name for name, rows in ROWS.items() for row in rows}


def test_balanced_batches_have_as_many_of_each_source_and_use_all_before_any_again():
    sampler = DomainSampler(ROWS, 16, "balanced", 3)
    drawn = [sampler.at(step).tolist() for step in range(1, 21)]
    assert all(Counter(OWNER[row] for row in batch) == dict.fromkeys(ROWS, 6) for batch in drawn)
    for name, rows in ROWS.items():
        order = [row for batch in drawn for row in batch if OWNER[row] == name]
        for start in range(0, len(order) - len(rows) + 1, len(rows)):
            assert sorted(order[start : start + len(rows)]) == list(rows)


def test_a_pooled_epoch_has_every_sample_once_and_goes_by_seed_and_epoch_alone():
    sampler = DomainSampler(ROWS, 29, "pooled", 3)
    assert sampler.steps_per_epoch == 2
    epochs = [np.concatenate([sampler.at(2 * epoch + 1), sampler.at(2 * epoch + 2)]) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(58)) for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    assert (DomainSampler(ROWS, 58, "pooled", 3).at(2) == epochs[1]).all()
    assert (DomainSampler(ROWS, 58, "pooled", 4).at(2) != epochs[1]).any()


@pytest.mark.parametrize("kind", ["balanced", "pooled"])
def test_a_step_draws_the_same_whatever_was_drawn_before_it(kind):
    in_order = DomainSampler(ROWS, 16, kind, 3)
    before = [in_order.at(step).tolist() for step in range(1, 12)]
    assert [DomainSampler(ROWS, 16, kind, 3).at(step).tolist() for step in range(1, 12)] == before
    assert in_order.at(4).tolist() == before[3]


def test_a_part_of_a_batch_has_the_samples_of_its_domains_alone():
    inputs = torch.arange(6.0)[:, None, None]
    batch = DomainBatch(inputs, torch.arange(6), torch.tensor([0, 1, 2, 0, 1, 2]))
    part = batch.part([2, 0])
    assert part.labels.tolist() == [0, 2, 3, 5]
    assert part.inputs.flatten().tolist() == [0, 2, 3, 5]
    assert (batch.present, part.present) == ([0, 1, 2], [0, 2])
    assert [len(each) for each in DomainBatch([torch.ones(3)] * 6, batch.labels, batch.domains).part([1]).inputs] == [
        3,
        3,
    ]


def test_options_without_meaning_here_are_unknown_and_none_is_shown():
    config = DomainOptions.from_config({}).as_config()
    assert {"metarc", "fold"}.isdisjoint({*config["downstream_expert"], *config["downstream_expert"]["datarc"]})
    assert DomainOptions.from_config(config).as_config() == config
    with pytest.raises(UserError, match=r"Unknown key config\.downstream_expert\.metarc"):
        DomainOptions.from_config({"downstream_expert": {"metarc": {"inner_lr": 0.1}}})
    with pytest.raises(UserError, match="sources and target go together"):
        DomainOptions.from_config({"downstream_expert": {"datarc": {"target": "x"}}})


def batch_of(generator):
    labels, domains = torch.arange(12) % 3, torch.tensor([0] * 2 + [1] * 4 + [2] * 6)
    return DomainBatch(torch.randn(12, 2, 4, generator=generator), labels, domains)


def made(system, batches="balanced", **general):
    options = DomainOptions.from_config({"downstream_expert": {"generalrc": general, "datarc": {"batches": batches}}})
    sources = Sources(("a", "b", "c"), ("x", "y", "z"), np.array([[2, 0, 0], [1, 1, 2], [3, 3, 0]]))
    return GENERALISERS.get(system)(options, sources)


@pytest.mark.parametrize("mean", ["domain", "pooled"])
@pytest.mark.parametrize("weights", ["none", "balanced", "logit_adjustment"])
@pytest.mark.parametrize("batches", ["balanced", "pooled"])
def test_deep_all_goes_down_the_loss_that_its_options_say(mean, weights, batches):
    generator = torch_generator("a test")
    model, batch = PooledModel((2, 4), 5, 3, generator), batch_of(generator)
    system = made("Deep-All", batches, loss_mean=mean, class_weights=weights)
    step = system.outer_gradient(model, batch, 1)
    prior, total = np.array([6, 4, 2]) / 12, 0.0
    if (mean, batches) != ("pooled", "pooled"):  # sources of 2, 4 and 6 count alike
        prior = (np.array([1, 0, 0]) + np.array([1, 1, 2]) / 4 + np.array([1, 1, 0]) / 2) / 3
    logits = model(batch.inputs).detach().double().numpy()
    logits += np.log(prior) if weights == "logit_adjustment" else 0
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    for domain, count in ((0, 2), (1, 4), (2, 6)):
        for at in np.flatnonzero(batch.domains.numpy() == domain):
            label = int(batch.labels[at])
            share = 1 / 12 if mean == "pooled" else 1 / (3 * count)
            total -= share * log_p[at, label] * (1 / (3 * prior[label]) if weights == "balanced" else 1)
    assert step.loss == pytest.approx(total, rel=1e-6)
    gradient, direction = model.classifier.weight.grad, torch.randn(3, 5, generator=generator)
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            model.classifier.weight += sign * 1e-2 * direction
            losses.append(system.mean_loss(system.sample_losses(model(batch.inputs), batch.labels), batch.domains))
            model.classifier.weight -= sign * 1e-2 * direction
    assert ((losses[0] - losses[1]) / 2e-2).item() == pytest.approx((gradient * direction).sum().item(), rel=1e-2)


def test_majority_says_the_shares_of_the_sources_and_an_average_is_a_row_of_its_own():
    found = made("Majority").probabilities(PooledModel((2, 4), 5, 3, torch_generator("any")), torch.ones(2, 2, 4))
    assert found.tolist() == [pytest.approx([6 / 12, 4 / 12, 2 / 12])] * 2
    averaged = made("Deep-All+swad")
    assert (averaged.name, averaged.general.average) == ("Deep-All+swad", "swad")
    assert made("Deep-All").general.average == "none"
    with pytest.raises(UserError, match="Deep-All"):
        GENERALISERS.get("Deep-Al")


def test_the_configuration_file_has_every_option_with_its_default():
    file = read_yaml(downstream_folder("domain_generalized_emotion") / "config.yaml")
    assert dict(flat(file)) == dict(flat(DomainOptions().as_config()))


@pytest.mark.parametrize(
    ("name", "cells"), [("dg_demo", 234), ("dg_table2", 520), ("dg_table3", 630), ("dg_table4", 560)]
)
def test_the_shipped_grids_are_of_registered_systems_and_known_scenarios(name, cells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("vectors.npz", names=np.array(["a"]), values=np.ones((1, 2), np.float32))
    found = expand(read_grid(Path(__file__).parents[1] / "benchmarks" / f"{name}.yaml"))
    assert len(found) == cells
    known = ["iemocap", "crema_d", "savee", "ravdess", "tess", "aesdd", "cafe", "emovo", "shemo", "emodb"]
    assert all(domains_of(cell.axes["scenario"], known).target in known for cell in found)
    assert {*nulls()} <= {cell.system for cell in found}
