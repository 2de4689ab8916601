"""``metaperser validate --all``: right results pass, and every invariant that is tampered with is found."""

import copy
import json
import shutil

import pytest
from small_demo import train_command

from s3prl_metaperser import cli
from s3prl_metaperser.audit import audit
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import load_corpus, root_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_plugin import launcher


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One system under both protocols, its dev result, and another one unseen."""
    folder = tmp_path_factory.mktemp("results")
    few = ("downstream_expert.datarc.test_raters=['C-E1', 'C-E2', 'C-E4', 'C-E5', 'C-E6']",)
    unseen = (*few, "downstream_expert.datarc.scenario=unseen")
    assert launcher.main(train_command(folder / "paper", "-v", "Linear-Few", options=few)) == 0
    assert launcher.main(train_command(folder / "unseen", "-v", "Random", options=unseen)) == 0
    for name, *more in (("paper",), ("paper", "-t", "dev"), ("unseen",)):
        assert launcher.main(["-m", "evaluate", "-e", str(folder / name), *more]) == 0
    tuned = "config.downstream_expert.evalrc.protocol=tuned"
    arguments = ["-m", "evaluate", "-e", str(folder / "paper"), "-p", str(folder / "tuned"), "-o", tuned]
    assert launcher.main(arguments) == 0
    shutil.copytree(folder / "paper", folder / "previous-1")
    (folder / "previous-1" / "result_test.json").write_text("torn")
    return folder


@pytest.fixture(scope="module")
def contents(results):
    return {str(p.relative_to(results)): json.loads(p.read_text()) for p in results.glob("[!p]*/result_*.json")} | {
        str(p.relative_to(results)): json.loads(p.read_text()) for p in results.glob("paper/result_*.json")
    }


def test_right_results_have_no_findings_and_are_held_against_the_corpus(results, capsys):
    found = audit(results)
    assert found.found == ()
    assert (found.files, found.with_corpus, found.without_corpus) == (4, 4, {})
    assert cli.main(["validate", "--all", str(results)]) == 0
    assert "4 result files" in capsys.readouterr().out
    assert cli.main(["validate", "--all", str(results), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"] == []


def test_without_the_corpus_it_says_so_and_checks_the_rest(results, monkeypatch, tmp_path):
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "empty"))
    found = audit(results)
    assert found.found == ()
    assert found.with_corpus == 0
    assert list(found.without_corpus.values()) == [4]
    assert "name it with --corpus and --root" in str(found)


def corpus_root():
    return root_of(
        Options.from_config({"downstream_expert": {"datarc": {"demo": {"utterances": 120}}}}).downstream_expert.datarc
    )


def test_a_corpus_can_be_named_and_another_one_is_noticed(results, tmp_path):
    root = corpus_root()
    assert audit(results, load_corpus("iemocap", root)).with_corpus == 4
    shutil.copytree(root, tmp_path / "changed")
    labels = next(tmp_path.rglob("EmoEvaluation/*.txt"))
    text = labels.read_text()
    assert "Neutral" in text
    labels.write_text(text.replace("Neutral", "Anger", 1))
    found = audit(results, load_corpus("iemocap", tmp_path / "changed")).found
    assert {finding.key for finding in found} == {"hashes.corpus"}


def first(content):
    return content["episodes"][0]


def flip(content):
    """The first prediction of the first query, with the share of two classes exchanged."""
    row = first(content)["probabilities"][0]
    high, low = row.index(max(row)), row.index(min(row))
    row[high], row[low] = row[low], row[high]


def shift(content, by=0.01):
    first(content)["probabilities"][0][0] += by


def swap_query(content):
    """A query of the support, in place of its own."""
    first(content)["query"][0] = first(content)["support"][0]


def other_rater(content):
    content["raters"]["test"], content["raters"]["train"][0] = content["raters"]["train"][0], content["raters"]["test"]


def put(*path, value):
    def change(content):
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value(inner[path[-1]]) if callable(value) else value

    return change


PAPER, DEV, TUNED, UNSEEN = (
    "paper/result_test.json",
    "paper/result_dev.json",
    "tuned/result_test.json",
    "unseen/result_test.json",
)
TAMPERED = [
    ("schema", PAPER, put("schema", value=2), "", "has result schema 2"),
    ("a key is gone", PAPER, lambda c: c["cell"].pop("fold"), "cell", "The key cell.fold is missing"),
    ("a type", PAPER, put("cell", "shots", value="8"), "cell.shots", "Bad value '8', expected a whole number"),
    ("a truth for a number", PAPER, put("cell", "shots", value=True), "cell.shots", "Bad value True, expected a whole number"),
    ("an infinite number", PAPER, put("seconds", value=float("inf")), "seconds", "Bad value inf, expected a finite number"),
    ("a list", PAPER, put("classes", value={}), "classes", "Bad value {}, expected a list"),
    ("leakage: support in query", PAPER, swap_query, "episodes[0].query", "are in the support, too"),
    ("leakage: another utterance", PAPER, put("episodes", 0, "query", 0, value="Ses01F_nowhere_F000"), "episodes", "not C-E1's"),
    ("leakage: session", UNSEEN, put("episodes", 0, "query", 0, value="Ses01F_impro01_F000"), "episodes[0]", "not of Ses05"),
    ("leakage: test rater trains", PAPER, lambda c: c["raters"]["train"].append("C-E1"), "raters.train", "test rater C-E1"),
    ("leakage: validation rater trains", PAPER, lambda c: c["raters"]["train"].append("C-E2"), "raters.train", "validation rater"),
    ("leakage: test validates", PAPER, put("raters", "validation", value="C-E1"), "raters", "test C-E1, validation C-E1"),
    ("another rater", PAPER, other_rater, "raters.test", "but the rater of fold1 in test_raters is 'C-E1'"),
    ("an utterance twice", PAPER, lambda c: first(c)["query"].__setitem__(0, first(c)["query"][1]), "episodes[0].query", "twice"),
    ("K", PAPER, lambda c: first(c)["support"].pop(), "episodes[0].support: its length", "7, but counts.shots_used is 8"),
    ("K in the counts", PAPER, put("counts", "shots_used", value=7), "counts.shots_used", "K never shrinks"),
    ("Q in the counts", PAPER, put("counts", "queries_used", value=25), "counts.queries_used", "expected 1 to Q = 24"),
    ("Q of one episode", PAPER, lambda c: [first(c)[k].pop() for k in ("query", "ticks", "probabilities")], "episodes[0].query: its length", "23"),
    ("an episode is gone", PAPER, lambda c: c["episodes"].pop(), "counts.episodes", "3, but the number of episodes is 2"),
    ("seeds twice", PAPER, put("cell", "seeds", 1, value=0), "cell.seeds", "a seed is listed twice"),
    ("seeds", PAPER, put("episodes", 1, "seed", value=7), "episodes[].seed", "but cell.seeds is"),
    ("hash", PAPER, put("hashes", "task", value="0"), "hashes.task", "is no SHA-256"),
    ("hash of episodes", PAPER, put("hashes", "episodes", value="0" * 16), "hashes.episodes", "the hash of what is drawn"),
    ("shrunk episodes", UNSEEN, put("hashes", "episodes", value="0" * 16), "hashes.episodes", "the hash of these episodes"),
    ("corpus hash", PAPER, put("hashes", "corpus", value="0" * 64), "hashes.corpus", "with which it is compared"),
    ("a draw", PAPER, lambda c: first(c)["support"].reverse(), "episodes[0]", "is not what seed 0 draws"),
    ("cell and options: scenario", PAPER, put("cell", "scenario", value="unseen"), "cell.scenario", "option datarc.scenario is 'seen'"),
    ("cell and options: steps", PAPER, put("cell", "steps", value=7), "cell.steps", "option evalrc.steps is 6"),
    ("cell and options: shots", PAPER, put("options", "downstream_expert", "evalrc", "shots", value=9), "cell.shots", "is 9"),
    ("cell and options: standardized", PAPER, put("options", "downstream_expert", "modelrc", "standardize", value=False), "cell.standardized", "is False"),
    ("file name", DEV, put("cell", "split", value="test"), "cell.split", "the file's name is 'dev'"),
    ("probabilities: sum", PAPER, shift, "episodes[0].probabilities", "a row's sum is off one by 0.01"),
    ("probabilities: range", PAPER, put("episodes", 0, "probabilities", 0, 0, value=-0.5), "episodes[0].probabilities", "below 0"),
    ("probabilities: NaN", PAPER, put("episodes", 0, "probabilities", 0, 0, value=float("nan")), "episodes[0].probabilities[0][0]", "Bad value nan, expected a finite number"),
    ("probabilities: shape", PAPER, lambda c: first(c)["probabilities"][0].pop(), "episodes[0].probabilities", "does not have the shape [24, 9]"),
    ("metrics of an episode", PAPER, put("episodes", 0, "metrics", "micro_f1", value=lambda v: v + 2e-12), "episodes[0].metrics.micro_f1", "scikit-learn"),
    ("metrics: another prediction", PAPER, flip, "episodes[0].metrics.macro_f1", "scikit-learn computes"),
    ("metrics: of probabilities", PAPER, put("episodes", 0, "metrics", "nats", value=lambda v: v + 1e-9), "episodes[0].metrics.nats", "the program computes"),
    ("metrics: mean", PAPER, put("metrics", "macro_f1", "mean", value=lambda v: v + 2e-12), "metrics.macro_f1.mean", "the episodes' is"),
    ("metrics: interval", PAPER, put("metrics", "macro_f1", "low", value=0.0), "metrics.macro_f1", "the interval computed again"),
    ("metrics: order", PAPER, put("metrics", "macro_f1", "high", value=0.0), "metrics.macro_f1", "out of order"),
    ("ticks: labels", PAPER, put("episodes", 0, "ticks", 0, value=[1, 1, 1, 1, 1, 1, 1, 1, 2]), "episodes[0].ticks", "are not the corpus's"),
    ("ticks: none", PAPER, put("episodes", 0, "ticks", 0, value=[0] * 9), "episodes[0].ticks", "has no tick"),
    ("loss", PAPER, put("episodes", 0, "loss", value=lambda v: v * 1.001), "episodes[0].loss", "but the probabilities' is"),
    ("loss below zero", PAPER, put("episodes", 0, "loss", value=-1.0), "episodes[0].loss", "is -1.0"),
    ("trajectory: metric", PAPER, put("trajectory", 1, "macro_f1", 0, value=0.5), "trajectory[1] of episode 0.macro_f1", "scikit-learn computes"),
    ("trajectory: steps", PAPER, put("trajectory", 1, "steps", value=99), "trajectory[].steps", "option evalrc.trajectory"),
    ("trajectory: one is gone", PAPER, lambda c: c["trajectory"][1]["predicted"].pop(), "trajectory[1]", "one entry for each episode"),
    ("trajectory: bits", PAPER, put("trajectory", 1, "predicted", 0, 0, value=512), "trajectory[1] of episode 0: predicted", "one number"),
    ("tuned: another choice", TUNED, put("tuned", "chosen", "fewrc.lr", value=0.5), "tuned.chosen", "is none of the choices"),
    ("tuned: not the best", TUNED, lambda c: c["tuned"]["grid"][-1].update(loss=-1.0), "tuned.chosen", "which is not the lowest"),
    ("tuned: steps", TUNED, put("cell", "steps", value=3), "cell.steps", "what was chosen"),
    ("tuned: gone", TUNED, put("tuned", value=None), "tuned", "does not fit protocol tuned"),
    ("tuned: no grid", TUNED, put("tuned", "grid", value=None), "tuned.grid", "Bad value None, expected a list"),
    ("pairing: Q", TUNED, put("cell", "queries", value=25), "cell.queries", "with which it is compared"),
    ("pairing: ticks", TUNED, put("episodes", 0, "ticks", 0, value=[1, 1, 1, 1, 1, 1, 1, 1, 2]), "episodes[0].ticks", "differ from"),
    ("classes", PAPER, lambda c: [part["classes"].reverse() for part in (c, c["label_set"])], "classes", "what the corpus has"),
    ("label set: classes", PAPER, lambda c: c["classes"].reverse(), "label_set.classes", "differ from classes"),
    ("label set: another", PAPER, lambda c: c["label_set"]["spellings"].clear(), "label_set", "what the corpus has"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "key", "what"), [t[1:] for t in TAMPERED], ids=[t[0] for t in TAMPERED])
def test_what_is_tampered_with_is_found(tmp_path, contents, name, change, key, what):
    for path, content in contents.items():
        if path == name or (path == PAPER and "compared" in what) or (path == PAPER and name == TUNED):
            if path == name:
                content = copy.deepcopy(content)
                change(content)
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(json.dumps(content))
    if "compared" in what and name == PAPER:
        (tmp_path / TUNED).parent.mkdir(exist_ok=True)
        (tmp_path / TUNED).write_text(json.dumps(contents[TUNED]))
    found = audit(tmp_path).found
    assert any(finding.key == key and what in finding.what for finding in found), [str(finding) for finding in found]


def test_a_file_that_is_no_result_is_a_finding_and_not_a_traceback(tmp_path, contents, capsys):
    for number, text in enumerate(("", "{", "[]", "null", '{"schema": 3}', '{"schema": 3, "cell": {"seeds": 3}}')):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "result_test.json").write_text(text)
    assert cli.main(["validate", "--all", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert f"{tmp_path}/0/result_test.json: " in said.out
    assert "6 result files" in said.out
    assert "Traceback" not in said.out + said.err


def test_a_result_that_is_not_of_the_checkpoint_beside_it_is_found(tmp_path, results, contents):
    content = copy.deepcopy(contents[PAPER])
    shutil.copy(results / "paper" / "dev-best.ckpt", tmp_path / "dev-best.ckpt")
    (tmp_path / "result_test.json").write_text(json.dumps(content))
    assert audit(tmp_path).found == ()
    content["hashes"]["parameters"], content["selected_step"] = "0" * 64, 7
    (tmp_path / "result_test.json").write_text(json.dumps(content))
    assert [finding.key for finding in audit(tmp_path).found] == ["hashes.parameters", "selected_step"]
    (tmp_path / "dev-best.ckpt").write_bytes(b"torn")
    assert "is not a checkpoint that can be read safely" in audit(tmp_path).found[0].what


def test_two_files_of_one_cell_are_found(tmp_path, contents):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result_test.json").write_text(json.dumps(contents[PAPER]))
    assert any("is of the same cell and fold" in finding.what for finding in audit(tmp_path).found)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (put("options", "downstream_expert", "fewrc", "lr", value=0.5), "option downstream_expert.fewrc.lr is"),
        (put("raters", "test", value="C-E1"), "the fold of this test rater in"),
    ],
)
def test_folds_that_one_mean_must_not_mix_are_found(tmp_path, contents, change, what):
    other = copy.deepcopy(contents[PAPER])
    other["cell"]["fold"] = other["options"]["downstream_expert"]["datarc"]["fold"] = "fold2"
    other["raters"].update(test="C-E2", validation="C-E4")
    change(other)
    for name, content in (("a", contents[PAPER]), ("b", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result_test.json").write_text(json.dumps(content))
    assert any(what in finding.what for finding in audit(tmp_path).found)


def grid_cell(content, **more):
    import hashlib

    options = {"downstream_expert.datarc.fold": content["cell"]["fold"]}
    definition = {"system": content["cell"]["system"], "scope": content["cell"]["scope"], "options": options}
    identity = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    return {"identity": identity, "definition": definition, "done": {"corpus": content["hashes"]["corpus"]}, **more}


def test_what_a_grid_says_of_a_cell_is_held_against_its_result(tmp_path, contents):
    result, cell = tmp_path / "cell" / "result_test.json", tmp_path / "cell" / "cell.json"
    cell.parent.mkdir()
    result.write_text(json.dumps(contents[PAPER]))
    right = grid_cell(contents[PAPER])
    cell.write_text(json.dumps(right))
    assert audit(tmp_path).found == ()
    wrong = {
        "identity": {**right, "identity": "0" * 64},
        "done.corpus": {**right, "done": {"corpus": "0" * 64}},
        "definition.system": grid_cell({**contents[PAPER], "cell": {**contents[PAPER]["cell"], "system": "Random"}}),
        "definition.options.downstream_expert.datarc.fold": grid_cell(
            {**contents[PAPER], "cell": {**contents[PAPER]["cell"], "fold": "fold2"}}
        ),
        "": ["no", "cell"],
    }
    for key, content in wrong.items():
        cell.write_text(json.dumps(content))
        assert [finding.key for finding in audit(tmp_path).found] == [key]
    cell.write_text(json.dumps(right))
    result.unlink()
    assert [finding.key for finding in audit(tmp_path).found] == ["done"]


def test_nothing_to_check_is_an_error_that_says_what_to_do(tmp_path, capsys):
    with pytest.raises(UserError, match="no such folder"):
        audit(tmp_path / "none")
    assert cli.main(["validate", "--all", str(tmp_path)]) == 2
    assert "holds no result_test.json" in capsys.readouterr().err
    assert cli.main(["validate"]) == 2
    assert "or a folder of results with --all" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["hashes", "probabilities", "query", "text", "trajectory", "options"])
def test_a_report_of_a_result_that_lacks_something_is_one_error_and_an_audit_has_findings(
    tmp_path, contents, damage, capsys
):
    content = copy.deepcopy(contents["unseen/result_test.json"])
    if damage == "options":
        content["options"]["downstream_expert"]["initrc"] = "x"
    elif damage == "hashes":
        del content["hashes"]
    elif damage == "text":
        content["episodes"][0]["probabilities"][0][0] = "x"
    elif damage == "trajectory":
        content["options"]["downstream_expert"]["evalrc"]["trajectory"] = ["x", 1, {}]
        content["trajectory"] = [{"steps": 1}]
    else:
        del content["episodes"][0][damage][0]
    (tmp_path / "result_test.json").write_text(json.dumps(content))
    assert audit(tmp_path).found
    if damage not in ("trajectory", "options"):
        assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
        assert "result_test.json: " in capsys.readouterr().err
