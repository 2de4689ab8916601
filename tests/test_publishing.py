"""``metaperser publish``: every form is what its own validator or reader takes."""

import dataclasses
import json
import os
import re
import shutil

import huggingface_hub
import numpy as np
import pytest
import yaml
from listener_fixtures import LABELS, random_model, write_clips
from test_report import write_results

from s3prl_metaperser.cli import main
from s3prl_metaperser.evaluation.summary import group, load_results, summarise
from s3prl_metaperser.exchange import hub_cards
from s3prl_metaperser.exchange.publishing import Told
from s3prl_metaperser.listener.folder import read_folder
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, ["Random", "Meta-PerSER"], raters=("C-E1", "C-E2", "C-E4"), queries=8, seeds=2)
    return folder


def published(source, form, out, *more):
    return main(["publish", str(source), "--format", form, "--out", str(out), *more])


# ------------------------------------------------------------------ Every Eval Ever


def evaluations(out):
    return {file: json.loads(file.read_text()) for file in sorted(out.glob("data/*/*/*/*.json"))}


def test_every_eval_evers_own_validator_takes_results_and_predictions(results, tmp_path, capsys):
    core = pytest.importorskip(
        "every_eval_ever.validator.validation_core", reason="extra publish: needs every-eval-ever (Python 3.12)"
    )
    assert published(results, "every_eval_ever", tmp_path / "out", "--organization", "Lab A") == 0
    assert "2 evaluations, 96 predictions" in capsys.readouterr().out
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    paths = {file.relative_to(tmp_path / "out").as_posix(): file for file in files}
    assert len(paths) == 4
    for path, file in paths.items():
        report = core.validate_file(
            file,
            repo_path=path,
            available_files=frozenset(paths),
            read_repo_file=lambda name: paths[name].read_text(),
            run_semantic_checks=True,
        )
        assert report.valid, report.errors
        assert report.warnings == []


def test_an_evaluation_says_what_the_tables_say_and_its_predictions_add_up(results, tmp_path):
    published(results, "every_eval_ever", tmp_path / "out", "--organization", "Lab A")
    cells = {cell.system: summarise(raters) for cell, raters in group(load_results(results)).items()}
    for file, found in evaluations(tmp_path / "out").items():
        assert found["model_info"]["id"] == f"Lab-A/{found['model_info']['additional_details']['system']}-fbank_no_cmvn"
        summary = cells[found["model_info"]["additional_details"]["system"]]
        scores = {each["evaluation_result_id"]: each["score_details"] for each in found["evaluation_results"]}
        assert scores["macro_f1/mean"]["score"] == summary.intervals["macro_f1"].mean
        interval = scores["macro_f1/mean"]["uncertainty"]["confidence_interval"]
        assert (interval["lower"], interval["upper"]) == (
            summary.intervals["macro_f1"].low,
            summary.intervals["macro_f1"].high,
        )
        assert scores["macro_f1/C-E2"]["score"] == summary.per_rater["C-E2"]["macro_f1"].mean
        lines = [json.loads(line) for line in file.with_name(f"{file.stem}_samples.jsonl").read_text().splitlines()]
        for rater in ("C-E1", "C-E2", "C-E4"):
            mine = [each for each in lines if each["evaluation_result_id"] == f"exact/{rater}"]
            assert len(mine) == 16
            assert np.mean([each["evaluation"]["score"] for each in mine]) == scores[f"exact/{rater}"]["score"]
            for each in mine:
                met = each["answer_attribution"][0]["extracted_value"].split("; ") == each["input"]["reference"]
                assert each["evaluation"]["is_correct"] == met
    again = tmp_path / "again"
    published(results, "every_eval_ever", again, "--organization", "Lab A")
    assert {f.name for f in evaluations(again)} == {f.name for f in evaluations(tmp_path / "out")}
    assert all(re.fullmatch(r"[0-9a-f-]{14}4[0-9a-f]{3}-[89ab][0-9a-f-]{16}", f.stem) for f in evaluations(again))


@pytest.mark.parametrize(
    ("form", "more", "message"),
    [
        ("every_eval_ever", [], "Add --organization"),
        ("every_eval_ever", ["--organization", "a", "--model-id", "a/b"], "holds several systems"),
        ("every_eval_evr", [], "Did you mean 'every_eval_ever'"),
        ("every_eval_ever", ["--organization", "a", "--model-id", "b"], "expected ORGANIZATION/NAME"),
    ],
)
def test_what_is_missing_is_asked_for_and_nothing_is_written(results, tmp_path, capsys, form, more, message):
    assert published(results, form, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ a hub of models and data sets


def test_results_beside_a_model_are_what_the_hubs_client_reads(results, tmp_path, capsys):
    given = ("--dataset-id", "lab/listeners", "--url", "https://example.org/r")
    dated = shutil.copytree(results, tmp_path / "dated")
    for file in dated.rglob("*.json"):
        os.utime(file, (1770120000, 1770120000))  # 2026-02-03, noon
    assert published(dated, "hf_eval_results", tmp_path / "out", *given) == 0
    said = capsys.readouterr().out
    assert "2 models with 2 results" in said
    assert "dates are those of the result files" in said
    benchmark = yaml.safe_load((tmp_path / "out" / "benchmark" / "eval.yaml").read_text())
    assert {"name", "description", "evaluation_framework", "tasks"} == set(benchmark)
    tasks = [task["id"] for task in benchmark["tasks"]]
    assert tasks == ["iemocap-seen-k32-paper"]
    cells = {cell.system: summarise(raters) for cell, raters in group(load_results(results)).items()}
    for system, summary in cells.items():
        file = tmp_path / "out" / f"{system}-fbank_no_cmvn" / ".eval_results" / "listeners.yaml"
        content = yaml.safe_load(file.read_text())
        (entry,) = huggingface_hub.parse_eval_result_entries(content)
        assert entry.dataset_id == "lab/listeners"
        assert entry.task_id in tasks
        assert entry.value == pytest.approx(100 * summary.intervals["macro_f1"].mean, abs=1e-4)
        assert "3 listeners" in entry.notes
        assert huggingface_hub.eval_result_entries_to_yaml([entry]) == content
        assert content[0]["date"] == "2026-02-03"


def test_a_value_over_fewer_listeners_than_its_neighbours_says_so(results, tmp_path):
    some = shutil.copytree(results, tmp_path / "in")
    for file in [f for f in sorted(some.rglob("*.json")) if json.loads(f.read_text())["cell"]["system"] == "Random"][
        1:
    ]:
        file.unlink()
    assert published(some, "hf_eval_results", tmp_path / "out", "--dataset-id", "lab/listeners") == 0
    notes = {f.parts[-3]: yaml.safe_load(f.read_text())[0]["notes"] for f in (tmp_path / "out").rglob("listeners.yaml")}
    assert notes["Random-fbank_no_cmvn"].endswith("of one listener; INCOMPLETE: 1 of 3 listeners")
    assert "; 3 listeners" in notes["Meta-PerSER-fbank_no_cmvn"]


def test_a_model_gets_a_card_that_the_hubs_client_reads_and_still_loads(tmp_path, capsys):
    model = random_model(tmp_path / "model")
    more = ("--licence", "apache-2.0", "--model-id", "lab/mine")
    assert published(model, "hf_model", tmp_path / "out", *more) == 0
    card = huggingface_hub.ModelCard((tmp_path / "out" / "README.md").read_text())
    data = card.data.to_dict()
    assert (data["license"], data["pipeline_tag"]) == ("apache-2.0", "audio-classification")
    assert data["base_model"] == "fbank_no_cmvn"
    assert "# lab/mine" in card.text
    assert "Not for decisions about people" in card.text
    assert read_folder(tmp_path / "out").card == read_folder(model).card
    assert published(model, "hf_model", tmp_path / "words", "--licence", "ask us") == 0
    data = huggingface_hub.ModelCard((tmp_path / "words" / "README.md").read_text()).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "ask us")
    assert published(model, "hf_model", tmp_path / "out") == 2
    assert "not empty" in capsys.readouterr().err


def test_metrics_of_a_card_become_results_of_the_models_index(tmp_path):
    span = {"mean": 0.31, "low": 0.25, "high": 0.37}
    told = Told(dataset_id="lab/listeners", model_id="lab/mine")
    card = read_folder(random_model(tmp_path / "model")).card
    card = dataclasses.replace(card, metrics={"macro_f1": span, "raters": 1, "fold": "fold1"})
    metadata = hub_cards._metadata(card, told)
    (found,) = huggingface_hub.ModelCardData(**metadata).eval_results
    assert (found.metric_type, found.metric_name, found.dataset_type) == ("macro_f1", "macro-F1, %", "lab/listeners")
    assert found.metric_value == 31.0, "percent, as .eval_results has it"


def test_what_one_listener_hears_is_not_published(tmp_path, capsys):
    model = random_model(tmp_path / "model")
    clips = write_clips(tmp_path / "clips")
    own = PersonalizedEmotionRecognizer.load(model).adapt(clips[: len(LABELS)], LABELS[: len(clips)])
    own.save(tmp_path / "listener")
    assert published(tmp_path / "listener", "hf_model", tmp_path / "out") == 2
    assert "one listener's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
