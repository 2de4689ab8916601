"""A corpus with labels of its own, by ratings.csv and labels.yaml alone: validate, train, evaluate, audit, report."""

from __future__ import annotations

import dataclasses
import doctest
import json
import re
import shutil
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import yaml
from label_set_fixtures import LABELS, write_corpus, write_tone
from random_checkpoints import make_checkpoint
from small_demo import overrides, train_command

from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import DataOptions, DemoOptions
from s3prl_metaperser.corpora import CORPORA, LABEL_SETS, LabelSet, load_corpus, reader_of
from s3prl_metaperser.s3prl_plugin import launcher

KINDS = tuple(LABELS)
SYSTEMS = ("Meta-PerSER", "Linear-Few", "Linear-Zero")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
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
def test_inference_on_a_file_marks_what_the_label_set_decides(results, corpora, capsys, kind):
    label_set, wav = load_corpus("ratings_csv", corpora[kind]).label_set, next(corpora[kind].rglob("*.wav"))
    for system in ("Linear-Zero", "Meta-PerSER"):
        assert launcher.main(["-m", "inference", "-t", str(wav), "-e", str(results[kind] / system)]) == 0
        rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.strip().splitlines()]
        p = np.array([{row[0]: float(row[1]) for row in rows}[name] for name in label_set.classes])
        marks = {row[0]: row[2] for row in rows if len(row) > 2}
        if kind != "ordinal":
            assert set(marks.values()) <= {"ticked" if kind == "multi" else "chosen"}
        if kind == "ordinal":
            ((level, mark),) = marks.items()
            value = float(mark.removeprefix("nearest to "))
            assert value == pytest.approx(float(label_set.value(p / p.sum(), 0.05)), abs=0.05)
            assert abs(float(level) - value) <= 0.5
        elif kind == "single":
            assert list(marks) == [rows[0][0]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_recomputes_every_number_from_the_corpus(results, corpora, capsys, kind):
    assert main(["validate", "--all", str(results[kind]), "--corpus", "ratings_csv", "--root", str(corpora[kind])]) == 0
    assert "of 3 of them were held against the corpus" in capsys.readouterr().out


def test_a_label_set_that_an_option_named_is_named_for_the_audit_and_the_report_too(results, corpora, tmp_path, capsys):
    root, labels = tmp_path / "bare", tmp_path / "six.yaml"
    shutil.copytree(corpora["single"], root)
    (root / "labels.yaml").rename(labels)
    named = ["--corpus", "ratings_csv", "--root", str(root)]
    checked = ["validate", "--all", str(results["single"]), *named]
    assert main(checked) == 1
    assert "has other labels now" in capsys.readouterr().out, "they are read as IEMOCAP's"
    assert main([*checked, "--labels", str(labels)]) == 0
    report = ["report", str(results["single"]), "--out", str(tmp_path / "report"), *named, "--labels", str(labels)]
    assert main(report) == 0


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


# -- the pages ------------------------------------------------------------------------------------------------------

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_label_set_pages_examples_are_label_sets(tmp_path):
    examples = blocks("label_sets.md", "yaml")
    for example in examples:
        (tmp_path / "labels.yaml").write_text(example, encoding="utf-8")
        label_set = LabelSet.from_yaml(tmp_path / "labels.yaml")
        assert LabelSet.from_dict(json.loads(json.dumps(label_set.as_dict()))) == label_set
    assert [LabelSet.from_dict(yaml.safe_load(example)).kind for example in examples[:3]] == [
        "single",
        "ordinal",
        "soft",
    ]
    every_key = {f.name for f in dataclasses.fields(LabelSet)}
    assert set(yaml.safe_load(examples[-1])) == every_key, "the page shows every key"
    named = set(re.findall(r"`([a-z_0-9-]+)`", (DOCS / "label_sets.md").read_text(encoding="utf-8")))
    short = {name.replace("speechocean762", "") for name in LABEL_SETS.names()}
    assert short - {"-fluency"} <= named, "the page names every registered set"
    assert doctest.testfile(str(DOCS / "label_sets.md"), module_relative=False).failed == 0


def test_the_pages_corpus_runs_from_another_package_with_an_option_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "cache"))
    site = tmp_path / "site"
    info = site / "my_corpora-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "tiny_corpus.py").write_text(blocks("adding_a_corpus.md", "python")[0])
    toml = blocks("adding_a_corpus.md", "toml")[0]
    group, name, target = re.search(r'\[project\.entry-points\."(.+?)"\]\n(\S+) = "(.+?)"', toml).groups()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-corpora\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(str(site))
    root, draw = tmp_path / "tiny", np.random.default_rng(0)
    for clip in range(24):
        write_tone(root / f"{'ab'[clip % 2]}{clip:02}.wav", 150 + 20 * clip, 0.2, draw)
    for rater in ("t-ann", "t-ben", "t-cat", "dan"):
        rows = [f"{'ab'[clip % 2]}{clip:02} {('calm', 'tense', 'happy')[draw.integers(3)]}" for clip in range(24)]
        (root / f"{rater}.txt").write_text("\n".join(rows) + "\n")
    section = ("downstream_expert.datarc.corpus=tiny", f"downstream_expert.datarc.root={root}")
    quick = (*section, "downstream_expert.evalrc.queries=16")
    with CORPORA.read_again():
        assert main(["validate", "--corpus", "tiny", "--root", str(root)]) == 0
        assert "moods (single" in capsys.readouterr().out
        few = (*quick, "downstream_expert.datarc.raters=trained")
        assert launcher.main(train_command(tmp_path / "exp", "-v", "Linear-Zero", options=few)) == 0
        assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "exp")]) == 0
        content = json.loads((tmp_path / "exp" / "result_test.json").read_text())
        assert content["cell"]["corpus"] == "tiny"
        assert content["raters"] == {"test": "t-ann", "validation": "t-ben", "train": ["t-cat"]}
        assert content["options"]["downstream_expert"]["datarc"]["raters"] == "trained"
        capsys.readouterr()
        for wrong, message in (
            (
                "raters=some",
                r"Bad value 'some' for config.downstream_expert.datarc.raters. Expected one of: all, trained.",
            ),
            ("ratters=all", "Did you mean 'raters'?"),
            ("labels=crema_d", "corpus 'tiny' has the options raters."),
        ):
            options = (*quick, f"downstream_expert.datarc.{wrong}")
            assert launcher.main(train_command(tmp_path / "bad", "-v", "Linear-Zero", options=options)) != 0
            assert message in capsys.readouterr().err
    sys.modules.pop("tiny_corpus")


def test_options_that_stand_in_every_configuration_are_those_that_the_readers_declare():
    def fields(cls) -> dict:
        hints = typing.get_type_hints(cls, include_extras=True)
        return {f.name: (hints[f.name], f.default) for f in dataclasses.fields(cls)}

    assert fields(reader_of("demo").options) == fields(DemoOptions)
    common, own = fields(DataOptions), fields(reader_of("ratings_csv").options)
    assert {name: own[name] for name in ("duplicates", "outside")} == {n: common[n] for n in ("duplicates", "outside")}
