"""A corpus with labels of its own, by ratings.csv and labels.yaml alone: validate, train, evaluate, audit, report."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from label_set_fixtures import LABELS, write_corpus
from random_checkpoints import make_checkpoint
from small_demo import overrides, train_command

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.s3prl_plugin import launcher

KINDS = tuple(LABELS)
SYSTEMS = ("Meta-PerSER", "Linear-Few", "Linear-Zero")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    os.environ["METAPERSER_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    return {kind: write_corpus(tmp_path_factory.mktemp("corpora") / kind, kind) for kind in KINDS}


def of_corpus(root) -> tuple[str, ...]:
    return ("downstream_expert.datarc.corpus=ratings_csv", f"downstream_expert.datarc.root={root}")


@pytest.fixture(scope="module")
def results(corpora, tmp_path_factory):
    """Kind -> a folder of results of three systems on a frozen upstream."""
    made = {kind: tmp_path_factory.mktemp(f"results-{kind}") for kind in KINDS}
    for kind, folder in made.items():
        for system in SYSTEMS:
            few = (*of_corpus(corpora[kind]), "downstream_expert.evalrc.queries=16")
            assert launcher.main(train_command(folder / system, "-v", system, options=few)) == 0
            assert launcher.main(["-m", "evaluate", "-e", str(folder / system)]) == 0
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_validate_shows_the_label_set_and_finds_nothing_wrong(corpora, capsys, kind):
    assert main(["validate", "--corpus", "ratings_csv", "--root", str(corpora[kind])]) == 0
    label_set = load_corpus("ratings_csv", corpora[kind]).label_set
    assert f"label set {label_set}" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_holds_distributions_over_the_corpus_classes_and_what_the_rater_answered(results, corpora, kind):
    corpus = load_corpus("ratings_csv", corpora[kind])
    content = json.loads((results[kind] / "Meta-PerSER" / "result_test.json").read_text())
    assert content["classes"] == list(corpus.classes)
    answers = {r.utterance: r.answer for r in corpus.ratings if r.rater == content["raters"]["test"]}
    for episode in content["episodes"]:
        np.testing.assert_allclose(np.sum(episode["probabilities"], axis=1), 1, atol=1e-5)
        counts = np.array([corpus.label_set.counts(answers[utterance]) for utterance in episode["query"]])
        np.testing.assert_array_equal(episode["ticks"], counts)


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_recomputes_every_number_from_the_corpus(results, corpora, capsys, kind):
    assert main(["validate", "--all", str(results[kind]), "--corpus", "ratings_csv", "--root", str(corpora[kind])]) == 0
    assert "3" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_is_written(results, tmp_path, kind):
    assert main(["report", str(results[kind]), "--out", str(tmp_path / "report")]) == 0
    assert any((tmp_path / "report").glob("*.html"))


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_model_learns_them_too(corpora, tmp_path, kind):
    quick = (
        *("downstream_expert.evalrc.shots=6", "downstream_expert.evalrc.queries=6", "downstream_expert.evalrc.seeds=1"),
        *(
            "downstream_expert.evalrc.steps=2",
            "downstream_expert.metarc.shots=4",
            "downstream_expert.initrc.total_steps=2",
        ),
        *("downstream_expert.initrc.eval_step=2", "downstream_expert.initrc.batch_size=4", "runner.total_steps=2"),
        *("runner.eval_step=2", "runner.save_step=2", "runner.threads=1"),
    )
    weights = make_checkpoint("wavlm", tmp_path / "tiny.pt")
    start = ["-d", "personalized_emotion", "-u", "wavlm_local", "-k", str(weights), "-m", "train", "-f"]
    options = overrides(*quick, *of_corpus(corpora[kind]))
    assert launcher.main([*start, "-p", str(tmp_path / "exp"), "-o", options]) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "exp")]) == 0
    content = json.loads((tmp_path / "exp" / "result_test.json").read_text())
    assert content["cell"]["scope"] == "finetuned"
    assert np.isfinite(content["episodes"][0]["loss"])


def test_another_label_set_is_another_task(corpora, tmp_path):
    """Checkpoints know the set that they were trained with: the same words on another scale do not evaluate."""
    root = write_corpus(tmp_path / "corpus", "ordinal", clips=24)
    options = of_corpus(root)
    assert launcher.main(train_command(tmp_path / "exp", "-v", "Linear-Zero", options=options)) == 0
    (root / "labels.yaml").write_text((root / "labels.yaml").read_text().replace("10]", "20]"))
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "exp")]) != 0
