"""The report, on result files that are made up in a moment and read like real ones."""

import base64
import csv
import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import numpy as np
import pytest
from synthetic import synthetic_corpus

from s3prl_metaperser import registry
from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import labels_without_audio
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET, SUGGESTED
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation import collect
from s3prl_metaperser.evaluation.compare import _probability
from s3prl_metaperser.evaluation.decided import decided_classes
from s3prl_metaperser.evaluation.levels import levels
from s3prl_metaperser.evaluation.meta_testing import EpisodeResult
from s3prl_metaperser.evaluation.metrics import METRICS, Metric, episode_scores, main_metrics
from s3prl_metaperser.evaluation.result import EvaluatedCell, Point, Raters, Result
from s3prl_metaperser.evaluation.summary import compare, group, load_results, summarise
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.methods import DEFAULT_SYSTEM, facts_of, table2_rows
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList
from s3prl_metaperser.report import detail_tables, drawing, forest, further_tables, gathered, paper, trajectories
from s3prl_metaperser.report.folder import MANIFEST, publish
from s3prl_metaperser.report.further_tables import read_traits
from s3prl_metaperser.report.marginals import label_marginals
from s3prl_metaperser.report.tables import ABSENT, MISSING, Column, Table, Value
from s3prl_metaperser.report.write import PAGE, write_report
from s3prl_metaperser.report.writers import comma_separated, escape_latex, latex, markdown

NAMES = [metric.name for metric in main_metrics(LABEL_SET)]
ROWS = table2_rows()
SWITCHES = {part: option.rpartition(".")[2] for part, option in facts_of(DEFAULT_SYSTEM).parts.items()}
SKILL = {"Random": 0.0, "Linear-Few": 0.8, "Linear-Zero": 1.0, "Meta-PerSER": 1.6}


def write_results(
    folder,
    systems=tuple(SKILL),
    *,
    upstream="fbank_no_cmvn",
    corpus="iemocap",
    corpus_hash="c" * 64,
    scenario="seen",
    scope="frozen",
    shots=32,
    queries=24,
    seeds=3,
    raters=SUGGESTED.test_raters,
    protocol="paper",
    options=None,
    steps=(),
):
    """One result file for each system and rater, made as the runner makes them, of simulated predictions."""
    for name in systems:
        for rater in raters:
            fold = 1 + SUGGESTED.test_raters.index(rater)
            episodes, results = _episodes(rater, scenario, shots, queries, seeds, name)
            chosen = options or Options()
            expert = chosen.downstream_expert
            if name in ROWS:
                on = {switch: part in ROWS[name] for part, switch in SWITCHES.items()}
                expert = dataclasses.replace(expert, metarc=dataclasses.replace(expert.metarc, **on))
            data = dataclasses.replace(expert.datarc, corpus=corpus, scenario=scenario, fold=f"fold{fold}")
            expert = dataclasses.replace(
                expert,
                datarc=data,
                evalrc=dataclasses.replace(expert.evalrc, shots=shots, queries=queries, seeds=seeds),
            )
            result = Result.of(
                cell=EvaluatedCell(
                    corpus=corpus,
                    upstream=upstream,
                    scope=scope,
                    scenario=scenario,
                    fold=f"fold{fold}",
                    system=name,
                    split="test",
                    shots=shots,
                    queries=queries,
                    seeds=tuple(range(seeds)),
                    steps=50,
                    protocol=protocol,
                    standardized=True,
                    training_seed=1337,
                ),
                label_set=LABEL_SET,
                raters=Raters(rater, SUGGESTED.test_raters[fold % 5], ("C-F1", "C-M1")),
                asked=[episodes],
                tested=results,
                hashes={"corpus": corpus_hash, "task": "t", "features": "f", "upstream_checkpoint": "none"},
                options=dataclasses.asdict(dataclasses.replace(chosen, downstream_expert=expert)),
                selected_step=7,
                engine="loop",
                seconds=1.0,
                tuned=None,
                trajectory=_trajectory(results, steps) if name in ("Linear-Few", "Meta-PerSER") else None,
            )
            where = re.sub(r"\W", "_", f"{upstream}-{scope}-{scenario}-{name}-{shots}-{rater}-{protocol}")
            result.write(Path(folder) / where / "result_test.json")


def _episodes(rater, scenario, shots, queries, seeds, system):
    pool = [f"{scenario}{number:03d}" for number in range(80)]
    habits = np.random.default_rng(list(rater.encode()))
    marginals = habits.dirichlet(np.full(len(CLASSES), 2.0))
    ticks = {u: np.eye(len(CLASSES), dtype=np.int64)[habits.choice(len(CLASSES), p=marginals)] for u in pool}
    skill = SKILL.get(system, 1.2) * min(1, 0.6 + 0.08 * np.log2(shots))
    made, results = [], []
    for seed in range(seeds):
        query = tuple(np.random.default_rng([seed, *rater.encode()]).permutation(pool)[:queries].tolist())
        noise = np.random.default_rng([seed, shots, *rater.encode(), *system.encode()])
        logits = noise.standard_normal((queries, len(CLASSES))) + skill * np.stack([ticks[u] for u in query])
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        made.append(Episode(seed, tuple(f"s{number}" for number in range(shots)), query))
        results.append(EpisodeResult(seed, query, probabilities, np.stack([ticks[u] for u in query]), 1.0))
    episodes = EpisodeList("c" * 64, scenario, "fold", rater, "p", shots, queries, tuple(made))
    return episodes, results


def _trajectory(results, steps):
    """Predictions that are a class off before the last number of steps, and right at it; None without steps."""
    made = []
    for number in steps:
        shown = [np.roll(r.probabilities, number != steps[-1], axis=1) for r in results]
        scores = [episode_scores(p, r.ticks, LABEL_SET) for p, r in zip(shown, results, strict=True)]
        by_metric = {metric: tuple(score[metric] for score in scores) for metric in NAMES}
        losses = {"loss": (2.0 - number / 100,) * len(results), "support_loss": (1.0,) * len(results)}
        predicted = tuple(tuple(decided_classes(p, LABEL_SET)) for p in shown)
        made.append(Point(number, metrics=by_metric, predicted=predicted, **losses))
    return tuple(made) or None


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Both scenarios, four K, the ablation; on an upstream of ours and on one of the paper's."""
    folder = tmp_path_factory.mktemp("results")
    write_results(folder)
    write_results(folder, ["Random", "Meta-PerSER"], scenario="unseen")
    write_results(folder, [name for name in ROWS if name != "Meta-PerSER:INI+DA"], scenario="unseen")
    for shots in (2, 8):
        write_results(folder, ["Meta-PerSER"], shots=shots)
    write_results(folder, ["Linear-Few", "Meta-PerSER"], upstream="wavlm_base", seeds=2)
    write_results(folder, ["Meta-PerSER"], upstream="wavlm_base", shots=8)
    write_results(folder, ["Meta-PerSER"], upstream="wavlm_base", scenario="unseen", raters=SUGGESTED.test_raters[:2])
    return folder


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    write_report(results, out)
    return out


def rows(report, name):
    with open(report / "tables" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def row(report, name, **wanted):
    (found,) = (r for r in rows(report, name) if all(r[key] == value for key, value in wanted.items()))
    return found


def digest(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.ids, self.open = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in ("meta", "br", "link", "img", "col"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def test_a_tables_numbers_are_the_statistics_numbers(results, report):
    cells = group(load_results(results))
    for cell, raters in cells.items():
        if cell.system in ("Meta-PerSER", "Random") and cell.shots == 32:
            found = row(report, "table1", scenario=cell.scenario, upstream=cell.upstream, system=cell.system)
            spans = summarise(raters).intervals
            for metric, name in zip(NAMES, ("macro-F1", "micro-F1", "UA"), strict=False):
                assert float(found[f"{name} ours"]) == 100 * spans[metric].mean
                assert float(found[f"{name} ours low"]) == 100 * spans[metric].low
                assert float(found[f"{name} ours high"]) == 100 * spans[metric].high


def test_every_rater_is_shown_with_the_statistics_numbers(results, report):
    cell, raters = next(item for item in group(load_results(results)).items() if item[0].system == "Linear-Few")
    summary = summarise(raters)
    found = row(report, "raters", scenario=cell.scenario, upstream=cell.upstream, system="Linear-Few")
    for rater in SUGGESTED.test_raters:
        assert float(found[rater]) == 100 * summary.per_rater[rater]["macro_f1"].mean
    assert found["worst rater note"] == summary.worst["macro_f1"][0]


def test_the_papers_numbers_stand_beside_ours(report):
    found = row(report, "table1", scenario="seen", upstream="wavlm_base", system="Meta-PerSER")
    assert [found[f"{name} paper"] for name in ("macro-F1", "micro-F1", "UA")] == ["35.7", "50.7", "82.8"]
    assert found["macro-F1 ours"] not in ("", "missing")
    ours_alone = row(report, "table1", scenario="seen", upstream="fbank_no_cmvn", system="Meta-PerSER")
    assert ours_alone["macro-F1 paper"] == ""
    a4 = row(report, "table_a4", scenario="unseen", upstream="wavlm_base", K="64")
    assert (a4["macro-F1 paper"], a4["macro-F1 ours"]) == ("29.1", "missing")
    figure2 = row(report, "figure2", scenario="seen", K="32")
    assert float(figure2["macro-F1 paper"]) == pytest.approx((35.7 + 35.6 + 35.3) / 3)


def test_further_metrics_and_levels_have_tables_of_their_own_and_traits_come_from_a_file(results, report, tmp_path):
    cell, raters = next(item for item in group(load_results(results)).items() if item[0].system == "Linear-Few")
    place = {"scenario": cell.scenario, "upstream": cell.upstream, "system": "Linear-Few"}
    found, spans = row(report, "further", **place), summarise(raters).intervals
    assert float(found["error rate"]) == 100 * spans["error_rate"].mean
    assert "macro-F1, learned threshold" not in found
    assert "error rate ours" not in row(report, "table1", **place)
    of_levels = row(report, "levels", **place)
    assert float(of_levels["rater"]) == pytest.approx(100 * levels(raters).rater)
    assert (of_levels["trait"], len(raters)) == ("", 5)
    assert float(of_levels["worst tenth"]) == 100 * summarise(raters).worst["macro_f1"][1]
    table = tmp_path / "traits.csv"
    table.write_text(
        "rater,age\n" + "".join(f"{rater},{'old' if at else 'young'}\n" for at, rater in enumerate(raters))
    )
    write_report(results, tmp_path / "out", traits=read_traits(table))
    traits = {rater: {"age": "old" if at else "young"} for at, rater in enumerate(raters)}
    with_traits = row(tmp_path / "out", "levels", **place)
    assert float(with_traits["trait"]) == pytest.approx(100 * levels(raters, traits).trait)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rater\nanna\n", "no trait beside"),
        ("age,sex\n1,f\n", "'rater' is missing"),
        ("rater,age\na,1\na,2\n", ":3: rater 'a'"),
    ],
)
def test_a_table_of_traits_that_cannot_be_meant_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "traits.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_traits(tmp_path / "traits.csv")


def test_corpora_of_one_name_have_tables_of_their_own_and_every_k_its_comparisons(tmp_path):
    """Two variants of the demo corpus; K = 2 and 32 in one of them; and the whole method beside one with a part off."""
    partly = dataclasses.replace(Options().downstream_expert.metarc, combined_set=False)
    for raters, corpus_hash in (("paper", "a" * 64), ("opposed", "b" * 64)):
        expert = Options().downstream_expert
        data = dataclasses.replace(expert.datarc, demo=dataclasses.replace(expert.datarc.demo, raters=raters))
        chosen = Options(downstream_expert=dataclasses.replace(expert, datarc=data, metarc=partly))
        names = ["Linear-Zero", "Meta-PerSER", "Meta-PerSER:all"]
        write_results(tmp_path / raters, names, options=chosen, corpus="demo", corpus_hash=corpus_hash)
    write_results(
        tmp_path / "paper", ["Linear-Zero", "Meta-PerSER"], options=chosen, corpus="demo", corpus_hash="b" * 64, shots=2
    )
    write_report(tmp_path, tmp_path / "out")
    titles = {path.name for path in (tmp_path / "out" / "tables").glob("*.csv")}
    assert {"table1_demo-raters-paper_frozen.csv", "table1_demo-raters-opposed_frozen.csv"} <= titles
    found = rows(tmp_path / "out", "against_meta_perser_demo-raters-opposed_frozen")
    compared = {(r["K"], r["difference of"]) for r in found if r["metric"] == "macro-F1"}
    assert compared == {
        ("2", "Linear-Zero - Meta-PerSER"),
        ("32", "Linear-Zero - Meta-PerSER"),
        ("32", "Meta-PerSER:all - Meta-PerSER"),
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Selected by class-balanced loss" in page
    assert page.count("partly by construction") == 2  # of both corpora: labels come from tables
    checks = rows(tmp_path / "out", "against_meta_perser_checks_demo-raters-opposed_frozen")
    assert {float(r["p (sign flip)"]) >= 1 / 16 for r in checks} == {True}


def test_hub_names_find_the_papers_upstream():
    table = paper.spec().tables["table1"]
    place = {"scenario": "seen", "upstream": paper.paper_upstream("wav2vec2_base_960"), "row": "Entire-Sim"}
    assert paper.number(table, "macro_f1", **place) == Value(24.4)
    assert paper.number(table, "nats", **place) is ABSENT
    assert paper.number(table, "macro_f1", **{**place, "upstream": "fbank"}) is ABSENT


def test_missing_cells_are_shown_and_counted(report):
    lacking = [r for r in rows(report, "table1") if r["macro-F1 ours"] == "missing"]
    # 6 systems x 2 scenarios x (fbank, wavlm, wav2vec2, hubert): 4 + 2 on fbank, 2 + 1 on wavlm are there
    assert len(rows(report, "table1")) == 48
    assert len(lacking) == 48 - 9
    text = Page((report / PAGE).read_text(encoding="utf-8")).text
    assert "39 of 48 rows have no result." in text
    table2 = [r for r in rows(report, "table2") if r["upstream"] == "fbank_no_cmvn"]
    assert [r["macro-F1 ours"] == "missing" for r in table2] == [False, False, False, True, False, False]
    assert "*missing*" in (report / "tables" / "table1.md").read_text(encoding="utf-8")
    assert "missing" in (report / "tables" / "table1.tex").read_text(encoding="utf-8")


def test_a_cell_without_all_raters_says_how_many_it_has(report):
    found = row(report, "table1", scenario="unseen", upstream="wavlm_base", system="Meta-PerSER")
    assert found["macro-F1 ours note"] == "2 of 5 raters"
    whole = row(report, "table1", scenario="unseen", upstream="fbank_no_cmvn", system="Meta-PerSER")
    assert whole["macro-F1 ours note"] == ""
    text = Page((report / PAGE).read_text(encoding="utf-8")).text
    assert (
        "1 row(s) of “Table 1: all systems, K=32 (iemocap, frozen upstream)” are means over fewer test raters" in text
    )


def test_the_ablation_finds_its_rows_by_their_switches(results, report):
    cells = {cell.system: raters for cell, raters in group(load_results(results)).items() if cell.scenario == "unseen"}
    found = [r for r in rows(report, "table2") if r["upstream"] == "fbank_no_cmvn"]
    assert [tuple(r[part] for part in SWITCHES) for r in found][2] == ("✓", "✓", "", "")
    expected = summarise(cells["Meta-PerSER:INI+CSMT"]).intervals["macro_f1"].mean
    assert float(found[2]["macro-F1 ours"]) == 100 * expected


def test_figure_2_averages_over_upstreams(tmp_path):
    for upstream in ("wavlm_base", "hubert_base"):
        write_results(tmp_path / "in", ["Meta-PerSER"], upstream=upstream, shots=8)
    content = json.loads(next((tmp_path / "in").rglob("hubert*/result_test.json")).read_text())
    for path in (tmp_path / "in").rglob("hubert*/result_test.json"):  # other predictions on the same episodes
        content = json.loads(path.read_text())
        for episode in content["episodes"]:
            episode["probabilities"] = np.roll(episode["probabilities"], 1, axis=1).tolist()
        path.write_text(json.dumps(content))
    write_report(tmp_path / "in", tmp_path / "out")
    cells = group(load_results(tmp_path / "in"))
    means = [summarise(raters).intervals["macro_f1"].mean for raters in cells.values()]
    found = row(tmp_path / "out", "figure2", scenario="seen", K="8")
    assert means[0] != means[1]
    assert float(found["macro-F1 ours"]) == pytest.approx(50 * sum(means))


def verdicts(report):
    """(scenario, upstream, first, second) -> the row of the table of comparisons, by the primary metric at K=32."""
    found = {}
    for name in ("against_meta_perser", "against_zero_shot", "table2_parts"):
        for each in (r for r in rows(report, name) if r["metric"] == "macro-F1"):
            key = (each["scenario"], each["upstream"], *each["difference of"].split(" - "))
            assert not {key, (*key[:2], key[3], key[2])} & found.keys(), "a pair stands in one table"
            found[key] = each
    return found


def test_figure_words_and_tables_have_one_verdict_for_a_pair(report):
    text = Page((report / PAGE).read_text(encoding="utf-8")).text
    seen, told = set(), verdicts(report)
    for scenario, upstream in (("seen", "fbank_no_cmvn"), ("unseen", "fbank_no_cmvn"), ("seen", "wavlm_base")):
        with open(report / "figures" / f"forest_{scenario}_{upstream}.csv", encoding="utf-8") as file:
            drawn = list(csv.DictReader(file))
        for each in drawn:
            for column, other in (("over zero-shot", "Linear-Zero"), ("over the method", "Meta-PerSER")):
                if each[f"{column} mean"]:
                    pair = (scenario, upstream, each["system"], other)
                    sign = 1 if pair in told else -1
                    pair = pair if pair in told else (scenario, upstream, other, each["system"])
                    assert float(each[f"{column} mean"]) == pytest.approx(sign * float(told[pair]["difference"]))
                    assert each[f"{column} told apart"] == told[pair]["told apart"]
                    ends = sorted(sign * float(told[pair][f"corrected {end}"]) for end in ("low", "high"))
                    assert [float(each[f"{column} {end}"]) for end in ("low", "high")] == pytest.approx(ends)
                    seen.add(pair)
                    if "Meta-PerSER" in pair and told[pair]["told apart"] == "yes":
                        assert f"{each['system']} (by {abs(float(each[f'{column} mean'])):.1f})" in text or sign < 0
    assert seen == {pair for pair in told if ":" not in pair[2]}, "every pair that is tested is drawn"


def test_holms_correction_is_over_all_pairs_that_a_panel_draws(report):
    """Against p values by hand: five pairs of four systems, one of them asked for twice."""
    found = [r for key, r in verdicts(report).items() if key[:2] == ("seen", "fbank_no_cmvn") and ":" not in key[2]]
    alone, corrected = np.array([[float(r[name]) for name in ("p", "p (Holm)")] for r in found]).T
    order, least = np.argsort(alone), 0.0
    assert len(found) == 5
    for place, at in enumerate(order):
        least = max(least, min(1.0, (5 - place) * alone[at]))
        assert corrected[at] == pytest.approx(least)
    assert all((r["p (Holm)"] != "") == (int(r["raters"]) >= 3) for r in verdicts(report).values())


def test_figures_exist_for_what_there_are_results_for(report):
    names = {path.name for path in (report / "figures").iterdir()}
    for key in ("k_curves_fbank_no_cmvn", "raters_seen_fbank_no_cmvn", "reliability_unseen_wavlm_base"):
        assert {f"{key}.svg", f"{key}.png", f"{key}.csv"} <= names
    assert not any("hubert" in name for name in names)
    for path in (report / "figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    svg = (report / "figures" / "k_curves_wavlm_base.svg").read_text(encoding="utf-8")
    assert "dc:date" not in svg
    assert "the paper's Meta-PerSER" in svg


def test_adaptation_is_drawn_over_its_steps_and_ends_with_the_tables_numbers(tmp_path):
    write_results(tmp_path / "in", steps=(0, 5, 50))
    write_results(tmp_path / "in", ["Meta-PerSER"], scenario="unseen", steps=(0, 50))
    for path in (tmp_path / "in").rglob("*_seen_Linear_Few*C_E2*/result_test.json"):  # this rater diverges at 5 steps
        content = json.loads(path.read_text())
        content["trajectory"][1] = {"steps": 5, "diverged": "Linear-Few diverges"}
        path.write_text(json.dumps(content))
    write_report(tmp_path / "in", tmp_path / "out")
    out = tmp_path / "out"
    found = rows(out, "adaptation")
    assert [(r["scenario"], r["system"], r["steps"]) for r in found] == [
        *(("seen", "Linear-Few", steps) for steps in ("0", "50")),
        *(("seen", "Meta-PerSER", steps) for steps in ("0", "5", "50")),
        *(("unseen", "Meta-PerSER", steps) for steps in ("0", "50")),
    ]
    for scenario, system in (("seen", "Linear-Few"), ("seen", "Meta-PerSER"), ("unseen", "Meta-PerSER")):
        (last,) = (r for r in found if (r["scenario"], r["system"], r["steps"]) == (scenario, system, "50"))
        main = row(out, "table1", scenario=scenario, upstream="fbank_no_cmvn", system=system)
        for end in ("", " low", " high"):
            assert float(last[f"macro-F1{end}"]) == pytest.approx(float(main[f"macro-F1 ours{end}"]))
        (first,) = (r for r in found if (r["scenario"], r["system"], r["steps"]) == (scenario, system, "0"))
        assert float(first["macro-F1"]) < float(last["macro-F1"])
        assert (first["loss"], last["loss"]) == ("2.0", "1.5")
    assert {f"adaptation_fbank_no_cmvn.{suffix}" for suffix in ("svg", "png")} <= {
        path.name for path in (out / "figures").iterdir()
    }
    page = Page((out / PAGE).read_text(encoding="utf-8"))
    assert "Adaptation over its steps: fbank_no_cmvn, K=32 (iemocap, frozen upstream)" in {
        attributes.get("aria-label") for _, attributes in page.tags
    }
    assert "Linear-Few, seen data, fbank_no_cmvn: 5 steps are left out" in page.text
    assert "is not drawn" not in page.text


def test_without_trajectories_a_sentence_says_so(report):
    assert "Adaptation over its steps is not drawn: no result has" in Page((report / PAGE).read_text()).text
    assert not any(path.name.startswith("adaptation") for path in (report / "figures").iterdir())


def test_small_p_values_are_said_to_be_small():
    assert str(Value(0.0004, decimals=3, positive=True)) == "<0.001"
    assert str(Value(0.001, decimals=3, positive=True)) == "0.001"
    assert _probability(0.0004) == "p < 0.001"
    assert _probability(0.0214) == "p = 0.021"


def test_the_papers_tables_agree_with_each_other_and_with_its_text():
    """Table 1 and Table A4 share K = 32, Table 2's last row is Table 1's, and section 4.2 quotes Figure 2's ends."""
    content = paper.published()
    for scenario in ("seen", "unseen"):
        for upstream in paper.spec().upstreams:
            assert content["table1"][scenario][upstream]["Meta-PerSER"] == content["table_a4"][scenario][upstream][32]
    for upstream in paper.spec().upstreams:
        assert content["table2"]["all_four"][upstream] == content["table1"]["unseen"][upstream]["Meta-PerSER"]
    quoted = (("macro_f1", 2, 33.2), ("macro_f1", 32, 35.5), ("micro_f1", 32, 50.2), ("unweighted_accuracy", 32, 82.1))
    figure2 = paper.spec().tables["figure2"]
    for metric, shots, number in quoted:
        assert paper.number(figure2, metric, scenario="seen", upstream="", row=str(shots)).mean == pytest.approx(
            number, abs=0.1
        )
    for table in ("table_a1", "table_a2"):
        for rater in SUGGESTED.test_raters:
            assert sum(content[table][rater]["marginals"]) == pytest.approx(100, abs=0.02)


def test_the_same_results_give_the_same_bytes(tmp_path):
    write_results(tmp_path / "in", ["Meta-PerSER"], raters=SUGGESTED.test_raters[:2])
    write_results(tmp_path / "in", ["Meta-PerSER"], raters=SUGGESTED.test_raters[:2], shots=8)
    write_report(tmp_path / "in", tmp_path / "out")
    shutil.copytree(tmp_path / "in", tmp_path / "elsewhere")
    write_report(tmp_path / "elsewhere", tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / "out")
    assert any(name.endswith(".svg") for name in digest(tmp_path / "out"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process does it")
def test_a_large_report_is_made_by_several_processes_to_the_same_bytes_and_a_broken_result_is_one_error(
    tmp_path, monkeypatch
):
    write_results(tmp_path / "in", ["Linear-Zero", "Meta-PerSER"], raters=SUGGESTED.test_raters[:3], steps=(0, 50))
    write_report(tmp_path / "in", tmp_path / "out")
    monkeypatch.setattr(collect, "MANY", 1)
    for module in (detail_tables, drawing, further_tables, trajectories):
        monkeypatch.setattr(module, "FEW", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    write_report(tmp_path / "in", tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / "out")
    broken = next((tmp_path / "in").rglob("result_test.json"))
    broken.write_text("[")
    with pytest.raises(UserError, match=re.escape(str(broken))):
        write_report(tmp_path / "in", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_of_very_many_upstreams_some_are_drawn_and_the_rest_have_means_over_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(gathered, "DRAWN", 1)
    monkeypatch.setattr(forest, "DRAWN", 1)
    for upstream in ("a", "b", "c"):
        write_results(tmp_path / "in", ["Linear-Zero", "Meta-PerSER"], upstream=upstream, corpus="own", steps=(0, 50))
    write_report(tmp_path / "in", tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert names == {"adaptation_a", "forest_seen_a", "forest_seen_b", "raters_seen_a", "reliability_seen_a"}
    drawn, rest = (
        row(tmp_path / "out", "adaptation", upstream=name, system="Meta-PerSER", steps="50") for name in ("a", "b")
    )
    mine = [r for r in load_results(tmp_path / "in") if (r.cell.upstream, r.cell.system) == ("b", "Meta-PerSER")]
    points = [result.trajectory[-1] for result in mine]
    assert float(rest["macro-F1"]) == pytest.approx(100 * np.mean([point.metrics["macro_f1"] for point in points]))
    assert drawn["macro-F1 low"]
    assert not rest["macro-F1 low"]
    text = Page((tmp_path / "out" / PAGE).read_text(encoding="utf-8")).text
    assert "Of 3 upstreams, a are drawn; the tables have all." in text
    assert "1 more settings" in text
    assert {r["upstream"] for r in rows(tmp_path / "out", "scores")} == {"a", "b", "c"}


def test_the_page_needs_nothing_but_itself(report):
    text = (report / PAGE).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"link", "img", "iframe", "object", "embed"}
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    assert [tag for tag, _ in page.tags].count("script") == 1
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{allowed}'" in policy
    assert "script-src 'unsafe" not in policy
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            place = attributes.get(name, "#")
            assert place.startswith("#") or (report / unquote(place)).is_file(), "a file of this report"
        assert not any(name.startswith("on") for name in attributes)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    for _, attributes in page.tags:
        if (link := attributes.get("href", "")).startswith("#") and len(link) > 1:
            assert link[1:] in page.ids
    for used in re.findall(r"url\(#([^)]+)\)", text):
        assert used in page.ids


def test_everything_that_a_result_says_is_escaped(tmp_path):
    name = "<script>alert(1)</script> & 50%_$x$ | =1+1"
    write_results(tmp_path / "in", ["Meta-PerSER", name], upstream='up"><b>')
    write_report(tmp_path / "in", tmp_path / "out")
    text = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    page = Page(text)
    assert [tag for tag, _ in page.tags if tag in ("script", "b")] == ["script"], "the page's own"
    assert name in page.text
    assert name in [r["system"] for r in rows(tmp_path / "out", "table1")]
    tex = (tmp_path / "out" / "tables" / "table1.tex").read_text(encoding="utf-8")
    assert (
        r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{} \& 50\%\_\$x\$ \textbar{} =1+1" in tex
    )
    md = (tmp_path / "out" / "tables" / "table1.md").read_text(encoding="utf-8")
    line = next(line for line in md.splitlines() if "script" in line)
    assert "&lt;script&gt;" in line
    assert r"50%\_$x$ \| =1+1" in line


def test_latex_special_characters_are_text():
    assert escape_latex("a_b & 5% #1 {x} ~ ^ \\") == (
        r"a\_b \& 5\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert escape_latex("x [1, 2]") == "x {[}1, 2{]}"


def test_the_three_writers_show_one_table_alike():
    columns = (Column("name"), Column("ours", "F1", True), Column("paper", "F1"))
    table = Table(
        "t", "T", "C.", columns, (("a", Value(12.345, 10.0, 14.0, "2 of 5 raters"), Value(9.0)), ("b", MISSING, ABSENT))
    )
    assert r"| a | 12.3 \[10.0, 14.0\] (2 of 5 raters) | 9.0 |" in markdown(table)
    assert "| b | *missing* | — |" in markdown(table)
    assert comma_separated(table).splitlines() == [
        "name,F1 ours,F1 ours low,F1 ours high,F1 ours note,F1 paper",
        "a,12.345,10.0,14.0,2 of 5 raters,9.0",
        "b,missing,,,,",
    ]
    assert r" & \multicolumn{2}{c}{F1} \\" in latex(table)
    assert r"\cmidrule(lr){2-3}" in latex(table)
    assert r"a & 12.3 {[}10.0, 14.0{]} (2 of 5 raters) & 9.0 \\" in latex(table)
    with pytest.raises(ValueError, match="2 cells for 3 columns"):
        Table("t", "T", "C.", columns, (("a", MISSING),))


def test_a_spreadsheet_takes_no_text_for_a_formula():
    table = Table("t", "T", "C.", (Column("name"),), (("=cmd()",), ("-cmd()",), ("-1",), ("plain",)))
    assert comma_separated(table).splitlines()[1:] == ["'=cmd()", "'-cmd()", "-1", "plain"]


def test_label_marginals_are_counted_from_the_corpus():
    corpus = synthetic_corpus(60)
    shares, rate = label_marginals(corpus, ["C-E2"], ["Ses05"])["C-E2"]
    mine = [r.ticks for r in corpus.ratings if r.rater == "C-E2" and r.utterance.startswith("Ses05")]
    flat = [tick for ticks in mine for tick in ticks]
    assert shares["angry"] == pytest.approx(100 * flat.count("angry") / len(flat))
    assert sum(shares.values()) == pytest.approx(100)
    assert rate == pytest.approx(len(flat) / len(mine))


def test_the_demo_corpus_is_known_without_its_audio(tmp_path):
    demo = Options().downstream_expert.datarc.demo
    corpus = labels_without_audio("demo", vars(demo))
    write_results(tmp_path / "in", ["Random"], corpus="demo", corpus_hash=corpus.fingerprint(), raters=("C-E1",))
    write_report(tmp_path / "in", tmp_path / "out")
    found = row(tmp_path / "out", "table_a1", **{"class": "frustrated"})
    assert float(found["C-E1 ours"]) == label_marginals(corpus, ["C-E1"])["C-E1"][0]["frustrated"]
    assert found["C-E1 paper"] == "38.16"
    assert row(tmp_path / "out", "table_a2", **{"class": "fear"})["C-E5 paper"] == "27.55"


def test_another_corpus_than_the_one_evaluated_is_refused(tmp_path):
    write_results(tmp_path / "in", ["Random"])
    with pytest.raises(UserError, match="the results were made with cccccccccccc"):
        write_report(tmp_path / "in", tmp_path / "out", corpus=synthetic_corpus(60))
    assert not (tmp_path / "out").exists()


def test_results_that_do_not_go_together_are_not_mixed(tmp_path, capsys):
    write_results(tmp_path / "in", ["Random"])
    write_results(tmp_path / "in", ["Linear-Few"], corpus_hash="d" * 64)
    with pytest.raises(UserError) as expected:
        load_results(tmp_path / "in")
    assert main(["report", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip() == f"metaperser: error: {expected.value}"
    assert not (tmp_path / "out").exists()


def test_frozen_and_fine_tuned_results_have_tables_of_their_own(tmp_path):
    write_results(tmp_path / "in", ["Linear-Few", "Linear-Zero"], upstream="wavlm_base", corpus="iemocap")
    write_results(tmp_path / "in", ["Meta-PerSER"], upstream="wavlm_base", corpus="iemocap", scope="finetuned")
    write_report(tmp_path / "in", tmp_path / "out")
    found = rows(tmp_path / "out", "table1_iemocap_finetuned")
    there = [r["system"] for r in found if r["macro-F1 ours"] != "missing"]
    assert there == ["Linear-Few (frozen)", "Meta-PerSER"]  # Linear-Few is frozen by definition
    assert len(found) == 42
    frozen = [r["system"] for r in rows(tmp_path / "out", "table1_iemocap_frozen") if r["macro-F1 ours"] != "missing"]
    assert frozen == ["Linear-Few", "Linear-Zero"]


def test_linear_few_alone_is_compared_with_fine_tuned_systems_and_has_no_tables_of_its_own(tmp_path):
    """Frozen by definition: with tables of its own, a complete reproduction of Table 1 would never be complete."""
    write_results(tmp_path / "in", ["Linear-Few"], upstream="wavlm_base", corpus="iemocap")
    systems = ["Random", "Meta-PerSER"]
    write_results(tmp_path / "in", systems, upstream="wavlm_base", corpus="iemocap", scope="finetuned")
    write_report(tmp_path / "in", tmp_path / "out")
    names = {path.name for path in (tmp_path / "out" / "tables").iterdir()}
    assert "table1.csv" in names
    assert not any("frozen" in name for name in names)
    there = [r["system"] for r in rows(tmp_path / "out", "table1") if r["macro-F1 ours"] != "missing"]
    assert there == ["Random", "Linear-Few (frozen)", "Meta-PerSER"]
    compared = row(
        tmp_path / "out",
        "against_meta_perser",
        metric="macro-F1",
        **{"difference of": "Linear-Few (frozen) - Meta-PerSER"},
    )
    few, meta = (row(tmp_path / "out", "table1", scenario="seen", upstream="wavlm_base", system=s) for s in there[1:])
    assert float(compared["difference"]) == pytest.approx(float(few["macro-F1 ours"]) - float(meta["macro-F1 ours"]))
    page = (tmp_path / "out" / PAGE).read_text()
    assert "Linear-Few (frozen) and Meta-PerSER" in page or "better than Linear-Few (frozen)" in page


def test_a_name_with_other_switches_in_another_scenario_keeps_its_own_row(tmp_path):
    expert = Options().downstream_expert
    other = dataclasses.replace(expert.metarc, combined_set=False, lslr=False)
    options = dataclasses.replace(Options(), downstream_expert=dataclasses.replace(expert, metarc=other))
    write_results(tmp_path / "in", ["Meta-PerSER", "Meta-PerSER:none"])
    write_results(tmp_path / "in", ["Meta-PerSER", "Meta-PerSER:none"], scenario="unseen", options=options)
    write_report(tmp_path / "in", tmp_path / "out")
    found = [r for r in rows(tmp_path / "out", "table2") if r["macro-F1 ours"] != "missing"]
    parts = [(r["scenario"], r["parts"]) for r in found]
    assert parts == [
        ("seen", "none"),
        ("seen", "INI + CSMT + DA + LSLR"),
        ("unseen", "none"),
        ("unseen", "INI + DA"),
    ]


def test_a_report_is_replaced_and_nothing_else_is_touched(tmp_path):
    out = tmp_path / "out"
    publish({"tables/old.md": b"old", "report.html": b"old"}, out)
    (out / "tables" / "mine.txt").write_text("mine")
    (out / "notes.txt").write_text("mine")
    publish({"figures/new.svg": b"new", "report.html": b"new"}, out)
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {"figures/new.svg", "report.html", "tables/mine.txt", "notes.txt", MANIFEST}
    assert (out / "report.html").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_of_the_users_is_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    with pytest.raises(UserError, match=r"report\.html is in the way"):
        publish({"report.html": b"new"}, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="not a folder"):
        publish({"report.html": b"new"}, tmp_path / "file")


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    publish({"report.html": b"old"}, tmp_path / "out")
    before = digest(tmp_path / "out")
    with pytest.raises(TypeError):
        publish({"report.html": b"new", "tables/a.md": None}, tmp_path / "out")
    assert digest(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_matplotlib_the_error_says_what_to_install(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 's3prl-metaperser\[report\]'"):
        write_report(results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_drawing_leaves_matplotlibs_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with drawing.style():
        drawing.new_figure(1, 1, 2)
    assert dict(matplotlib.rcParams) == before


def test_the_command_says_where_the_report_is_and_what_is_missing(tmp_path, capsys):
    write_results(tmp_path / "in", ["Random", "Meta-PerSER"])
    assert main(["report", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("10 result files; ")
    assert "have no result yet" in said
    assert str(tmp_path / "out" / PAGE) in said
    assert (tmp_path / "out" / PAGE).is_file()


def test_a_report_is_up_to_date_by_the_contents_of_results_not_by_their_times(tmp_path, capsys):
    raters, folder, out = SUGGESTED.test_raters, tmp_path / "in", tmp_path / "out"
    write_results(folder, ["Random"], raters=raters[:1])
    command = ["report", str(folder), "--out", str(out), "--if-changed"]

    def made():
        assert main(command) == 0
        return "up to date" not in capsys.readouterr().out

    assert (made(), made()) == (True, False)
    write_results(tmp_path / "other", ["Random"], raters=raters[1:2])
    (copied,) = (tmp_path / "other").iterdir()
    for path in copied.rglob("*"):
        os.utime(path, (1e9, 1e9))  # long before the report
    shutil.copytree(copied, folder / copied.name, copy_function=shutil.copy2)
    assert (made(), made()) == (True, False)
    (out / "tables" / "table1.csv").unlink()
    assert (made(), made()) == (True, False)
    write_results(folder, ["Random"], raters=raters[:1], seeds=2)
    shutil.rmtree(folder / copied.name)
    assert (made(), made()) == (True, False)


def test_a_trial_whose_numbers_mean_nothing_has_no_verdicts(tmp_path):
    plain = Options()
    expert = plain.downstream_expert
    evalrc = dataclasses.replace(expert.evalrc, verdicts=False)
    options = dataclasses.replace(plain, downstream_expert=dataclasses.replace(expert, evalrc=evalrc))
    write_results(tmp_path / "in", options=options)
    write_report(tmp_path / "in", tmp_path / "out")
    text = Page((tmp_path / "out" / PAGE).read_text(encoding="utf-8")).text
    assert "These are numbers of a trial, which mean nothing" in text
    assert not re.search("is ahead of [A-Z]|cannot be told apart from [A-Z]|helps", text)
    assert not list((tmp_path / "out" / "tables").glob("against_*"))
    grid = read_grid(Path(__file__).parents[1] / "benchmarks" / "smoke.yaml")
    assert "numbers that mean nothing" in grid.description
    assert all(part.options["downstream_expert"]["evalrc"]["verdicts"] is False for part in grid.parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus", "iemocap"], "--corpus and --root go together"),
        (["--protocol", "tunde"], "Did you mean 'tuned'"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, capsys, arguments, message):
    write_results(tmp_path / "in", ["Random"], raters=SUGGESTED.test_raters[:1])
    assert main(["report", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


SIX = LabelSet("six", "single", ("anger", "disgust", "fear", "happy", "neutral", "sad"))
SCALE = LabelSet("fluency", "ordinal", tuple(map(str, range(11))), levels=tuple(map(float, range(11))))


FOUR = ("ann", "bob", "cem", "dee")


def write_own(folder, label_set, *, constant=(), scenario="seen", shots=2, people=FOUR):
    """Results of a corpus of one's own: some raters, two systems, one K."""
    size = len(label_set.classes)
    for system, skill in (("Linear-Zero", 0.2), ("Meta-PerSER", 0.5)):
        for fold, rater in enumerate(people, start=1):
            draw = np.random.default_rng([fold, size])
            values = draw.uniform(0, 10, size=40)
            if rater in constant:
                values[:] = 4.0
            pool = [
                label_set.counts(x if label_set.levels else [label_set.classes[int(x) % (size - 1)]]) for x in values
            ]
            made, results = [], []
            for seed in range(2):
                chosen = draw.permutation(40)[:16]
                counts = np.stack([pool[u] for u in chosen])
                p = skill * counts + (1 - skill) * draw.dirichlet(np.ones(size), size=16)
                query = tuple(f"clip{u:02d}" for u in chosen)
                made.append(Episode(seed, tuple(f"s{number}" for number in range(shots)), query))
                results.append(EpisodeResult(seed, query, p, counts, 1.0))
            expert = Options().downstream_expert
            data = dataclasses.replace(
                expert.datarc, corpus="own", scenario=scenario, fold=f"fold{fold}", smoothing=0.0
            )
            options = dataclasses.replace(Options(), downstream_expert=dataclasses.replace(expert, datarc=data))
            predicted = tuple(tuple(decided_classes(r.probabilities, label_set)) for r in results)
            scores = [episode_scores(r.probabilities, r.ticks, label_set) for r in results]
            by_metric = {name: tuple(score[name] for score in scores) for name in scores[0]}
            Result.of(
                cell=EvaluatedCell(
                    corpus="own",
                    upstream="fbank_no_cmvn",
                    scope="frozen",
                    scenario=scenario,
                    fold=f"fold{fold}",
                    system=system,
                    split="test",
                    shots=shots,
                    queries=16,
                    seeds=(0, 1),
                    steps=5,
                    protocol="paper",
                    standardized=True,
                    training_seed=1,
                ),
                label_set=label_set,
                raters=Raters(rater, people[fold % len(people)], ()),
                asked=[EpisodeList("c" * 64, scenario, "fold", rater, "p", shots, 16, tuple(made))],
                tested=results,
                hashes={"corpus": "c" * 64, "task": "t", "features": "f", "upstream_checkpoint": "none"},
                options=dataclasses.asdict(options),
                selected_step=1,
                engine="loop",
                seconds=1.0,
                trajectory=(Point(5, None, by_metric, (1.0, 1.0), (1.0, 1.0), predicted),),
            ).write(
                Path(folder)
                / f"{system}-{rater}{f'-{scenario}' * (scenario != 'seen')}{f'-{shots}' * (shots != 2)}"
                / "result_test.json"
            )


@pytest.mark.parametrize("label_set", [SIX, SCALE], ids=lambda s: s.kind)
def test_many_raters_are_shown_by_how_their_scores_are_spread(tmp_path, label_set):
    people = tuple(f"p{number:02d}" for number in range(21))
    write_own(tmp_path / "in", label_set, people=people)
    write_report(tmp_path / "in", tmp_path / "out")
    (metric, *_) = main_metrics(label_set)
    sign = 1 if metric.higher_is_better else -1
    each = [r for r in rows(tmp_path / "out", "each_rater") if r["metric"] == metric.title]
    means = {s: [float(r["mean"]) for r in each if r["system"] == s] for s in ("Linear-Zero", "Meta-PerSER")}
    assert [len(found) for found in means.values()] == [21, 21]
    for system, found in means.items():
        shown, best_last = row(tmp_path / "out", "raters", system=system), sorted(found, key=lambda m: sign * m)
        assert shown["raters"] == "21"
        assert float(shown["worst tenth"]) == pytest.approx(np.mean(best_last[:3]))
        assert float(shown["10 %"]) == pytest.approx(best_last[2])
        assert float(shown["25 %"]) == pytest.approx(best_last[5])
        assert float(shown["75 %"]) == pytest.approx(best_last[15])
        assert float(shown["median"]) == pytest.approx(np.median(found))
        assert float(shown["best tenth"]) == pytest.approx(np.mean(best_last[-3:]))
    gains = [sign * (ours - theirs) for theirs, ours in zip(*means.values(), strict=True)]
    assert [float(r["gain over zero-shot"]) for r in each if r["system"] == "Meta-PerSER"] == pytest.approx(gains)
    shown = row(tmp_path / "out", "raters", system="Meta-PerSER")
    shares = [100 * np.mean([gain > least for gain in gains]) for least in (0, 0.02)]
    worse = 100 * np.mean([gain < -0.02 for gain in gains])
    more, less = shares[1], worse
    assert list(map(float, list(shown.values())[-3:])) == pytest.approx([*shares, worse])
    assert row(tmp_path / "out", "raters", system="Linear-Zero")["% improved"] == ""
    curve = rows(tmp_path / "out", "adaptation")[0]
    assert curve["nats"], "a mean, and"
    assert curve["nats low"] == curve["nats high"] == "", "no interval, since results keep this mean alone"
    text = Page((tmp_path / "out" / PAGE).read_text(encoding="utf-8")).text
    assert sum(name in text.partition("What was compared")[0] for name in people) <= 2, "the worst of each system"
    assert (
        f"{more:.0f} % gain, {less:.0f} % lose" in next((tmp_path / "out" / "figures").glob("raters*.svg")).read_text()
    )


@pytest.mark.parametrize("label_set", [SIX, SCALE], ids=lambda s: s.kind)
def test_a_corpus_of_ones_own_shows_its_own_metrics_and_only_rows_with_results(tmp_path, label_set):
    write_own(tmp_path / "in", label_set)
    written = write_report(tmp_path / "in", tmp_path / "out")
    assert (written.missing, written.rows) == (0, 2)
    found = rows(tmp_path / "out", "table1")
    assert [r["system"] for r in found] == ["Linear-Zero", "Meta-PerSER"]
    metrics = main_metrics(label_set)
    assert [name for name in found[0] if f"{name} low" in found[0]] == [metric.title for metric in metrics]
    cells = group(load_results(tmp_path / "in"))
    for cell, raters in cells.items():
        (mine,) = (r for r in found if r["system"] == cell.system)
        for metric in metrics:
            assert float(mine[metric.title]) == metric.scale * summarise(raters).intervals[metric.name].mean
    text = Page((tmp_path / "out" / PAGE).read_text(encoding="utf-8")).text
    assert "All systems, K=2 (own, frozen upstream)" in text
    assert "IEMOCAP" not in text
    assert "missing" not in text.replace("What is missing", "")
    tables = {path.stem for path in (tmp_path / "out" / "tables").glob("*.csv")}
    assert {"table1", "raters", "calibration", "adaptation", "against_meta_perser"} <= tables
    assert not {"table2", "table_a4", "figure2", "against_zero_shot"} & tables


def test_verdicts_of_another_label_set_go_by_its_primary_metric_and_direction(tmp_path):
    write_own(tmp_path / "in", SIX)
    write_report(tmp_path / "in", tmp_path / "out")
    (comparison,) = compare(group(load_results(tmp_path / "in")), "zero-shot")
    assert comparison.metric.name == "nats"
    assert comparison.difference.mean < 0  # lower is better
    assert re.match(r"Meta-PerSER is better than Linear-Zero by 0\.\d{3} nats", comparison.verdict)
    text = Page((tmp_path / "out" / PAGE).read_text(encoding="utf-8")).text
    gain = -comparison.difference.mean
    assert f"Meta-PerSER gains {gain:.3f} nats on seen data over zero-shot." in text
    assert "a gain is how much lower" in text
    improved = row(tmp_path / "out", "raters", system="Meta-PerSER")
    assert improved["% improved"] == "100.0"


def test_episodes_without_a_value_are_counted_beside_the_number(tmp_path):
    write_own(tmp_path / "in", SCALE, constant=("bob",))
    write_report(tmp_path / "in", tmp_path / "out")
    found = row(tmp_path / "out", "table1", system="Meta-PerSER")
    assert (found["CCC note"], found["MAE note"]) == ("undefined in 2 episodes", "")
    assert row(tmp_path / "out", "raters", system="Meta-PerSER")["bob"] == ""
    stored = json.loads((tmp_path / "in" / "Meta-PerSER-bob" / "result_test.json").read_text())
    assert "ccc" not in stored["metrics"]
    assert "ccc" not in stored["episodes"][0]["metrics"]
    assert stored["metrics"]["mae"].keys() == {"mean", "low", "high"}


def test_figures_leave_out_a_metric_where_no_episode_defines_it(tmp_path):
    everybody = ("ann", "bob", "cem", "dee")
    for shots in (2, 4):
        write_own(tmp_path / "in", SCALE, shots=shots)
        write_own(tmp_path / "in", SCALE, shots=shots, scenario="unseen", constant=everybody)
    write_report(tmp_path / "in", tmp_path / "out")
    drawn = {path.stem.split("_fbank")[0] for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert drawn == {"adaptation", "k_curves", "forest_seen", "raters_seen", "reliability_seen", "reliability_unseen"}
    assert "MAE" in (tmp_path / "out" / "figures" / "adaptation_fbank_no_cmvn.svg").read_text(encoding="utf-8")


def test_the_note_below_table_1_says_what_perfect_predictions_reach(results, report):
    cells = {
        c: r
        for c, r in group(load_results(results)).items()
        if str(c).startswith("Linear-Few: iemocap, wavlm_base (frozen), seen")
    }
    perfect = np.mean(
        [np.mean([(e.counts.sum(0) > 0).mean() for e in es]) for es in next(iter(cells.values())).values()]
    )
    text = (report / "tables" / "table1.md").read_text(encoding="utf-8")
    assert f"Perfect predictions reach macro-F1 {100 * perfect:.1f} (seen)" in text


def test_nats_and_brier_stand_beside_the_papers_metrics_for_results_of_version_0_1_0(tmp_path):
    write_results(tmp_path / "in", ["Random"])
    for path in (tmp_path / "in").rglob("result_test.json"):  # as that version wrote them
        content = json.loads(path.read_text())
        content.pop("label_set")
        content.pop("task")
        for each in (content, *content["episodes"]):
            each["metrics"] = {name: each["metrics"][name] for name in NAMES[:3]}
        path.write_text(json.dumps({**content, "schema": 3}))
    write_report(tmp_path / "in", tmp_path / "out")
    found = row(tmp_path / "out", "table1", scenario="seen", upstream="fbank_no_cmvn", system="Random")
    (raters,) = group(load_results(tmp_path / "in")).values()
    expected = [-np.log(e.probabilities[e.counts > 0]).mean() for own in raters.values() for e in own]
    assert float(found["nats ours"]) == pytest.approx(np.mean(expected))
    assert float(found["Brier ours"]) > 0
    assert "nats paper" not in found


def test_the_published_demo_numbers_agree_with_each_other():
    """Meta-PerSER's row of Table 1 is the last one of Table 2 in docs/demo_results.md; the README shows the same."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "demo_results.md").read_text(encoding="utf-8")
    lines = [
        [part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    seen, unseen = ([line[1], line[4]] for line in lines if line[0] == "Meta-PerSER" and "[" in line[1])
    (last,) = (line[4:] for line in lines if line[:4] == ["✓"] * 4)
    assert last == [unseen[0], unseen[1], seen[0], seen[1]]
    published = {line[0]: [line[1]] for line in lines[:9] if "[" in line[1]}
    for line in lines[9:]:
        if line[0] in published and len(published[line[0]]) == 1 and "[" in line[1]:
            published[line[0]].append(line[1])
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8").splitlines()
    shown = [[part.strip() for part in line.strip("|").split("|")] for line in readme if line.startswith("| ")]
    ours = {line[0]: line[1:] for line in shown if line[0] in published}
    assert ours == {name: published[name] for name in ours}
    assert DEFAULT_SYSTEM in ours


def test_another_packages_metric_is_in_results_the_report_and_comparisons(tmp_path, monkeypatch):
    theirs = ModuleType("their_metric")
    theirs.TOP = Metric(
        "top_one", "top-1", ("single",), lambda p, counts, _: float((counts[p > p.max() / 2] > 0).mean())
    )
    monkeypatch.setitem(sys.modules, "their_metric", theirs)
    points = {METRICS.groups[0]: [EntryPoint("top_one", "their_metric:TOP", METRICS.groups[0])]}
    monkeypatch.setattr(registry, "entry_points", lambda group: points.get(group, []))
    with METRICS.read_again():
        write_own(tmp_path / "in", SIX)
        result = Result.read(tmp_path / "in" / "Meta-PerSER-ann" / "result_test.json")
        values = [episode.metrics["top_one"] for episode in result.episodes]
        assert result.metrics["top_one"].mean == pytest.approx(np.mean(values))
        assert re.search(r"^top-1, % +\d+\.\d +\d+\.\d to \d+\.\d$", result.table("title"), re.MULTILINE)
        write_report(tmp_path / "in", tmp_path / "out")
    assert float(row(tmp_path / "out", "table1", system="Meta-PerSER")["top-1 low"]) > 0
    assert row(tmp_path / "out", "against_meta_perser", metric="top-1")["difference of"] == "Linear-Zero - Meta-PerSER"
    assert "top-1" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
