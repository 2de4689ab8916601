"""Result files read together, and the numbers that a report shows, each against an independent computation."""

import copy
import itertools
import json
import re

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss

from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation import SCHEMA
from s3prl_metaperser.evaluation import calibration_scores as fit
from s3prl_metaperser.evaluation.collect import FREE_OPTIONS, load_by_task
from s3prl_metaperser.evaluation.compare import holm
from s3prl_metaperser.evaluation.metrics import episode_scores, main_metrics
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.evaluation.summary import Cell, compare, group, load_results, summarise, summarise_all

CLASSES = [f"class{c}" for c in range(9)]
RATERS = ("C-E1", "C-E2", "C-E4", "C-E5", "C-E6")


def scored(rater, skill, seed=0, queries=40, episodes=3, pool=120):
    """Episodes that are the same for every skill and system; predictions that are right with chance ``skill``."""
    truth = np.random.default_rng(hash_of(rater)).integers(9, size=pool)
    draw, luck = np.random.default_rng([7, hash_of(rater)]), np.random.default_rng([seed, hash_of(rater)])
    made = []
    for _ in range(episodes):
        chosen = draw.choice(pool, queries, replace=False)
        said = np.where(luck.random(queries) < skill, truth[chosen], luck.integers(9, size=queries))
        probabilities = luck.dirichlet(np.ones(9), size=queries) * 0.4
        probabilities[np.arange(queries), said] += 0.6
        made.append(Scored([f"u{c}" for c in chosen], probabilities, np.eye(9, dtype=int)[truth[chosen]], LABEL_SET))
    return made


NAMES = [metric.name for metric in main_metrics(LABEL_SET)]


def hash_of(rater):
    return RATERS.index(rater) + 1


def result(system="Linear-Zero", fold=1, skill=0.5, seed=0, **cell):
    """What a result file holds."""
    rater = RATERS[fold - 1]
    episodes = [
        {
            "seed": number,
            "support": [],
            "query": list(e.query),
            "probabilities": e.probabilities.tolist(),
            "ticks": e.counts.tolist(),
            "loss": 1.0,
            "metrics": dict.fromkeys(NAMES[:3], 0.5),
        }
        for number, e in enumerate(scored(rater, skill, seed))
    ]
    return {
        "schema": SCHEMA,
        "cell": {
            "corpus": "demo", "upstream": "fbank_no_cmvn", "scope": "frozen", "scenario": "seen",
            "fold": f"fold{fold}", "system": system, "split": "test", "shots": 32, "queries": 40,
            "seeds": [0, 1, 2], "steps": 50, "protocol": "paper", "standardized": True, "training_seed": 1, **cell,
        },
        "classes": CLASSES,
        "raters": {"test": rater, "validation": "C-E9", "train": []},
        "counts": dict.fromkeys(
            ("shots_requested", "shots_used", "queries_requested", "queries_used", "episodes"), len(episodes)
        ),
        "metrics": {name: {"mean": 0.5, "low": 0.4, "high": 0.6} for name in NAMES[:3]},
        "hashes": dict.fromkeys(("corpus", "task", "features", "upstream_checkpoint", "code"), "c")
        | {"episodes": f"e{fold}"},
        "versions": {}, "selected_step": 1, "tuned": None, "engine": "loop", "trajectory": None, "seconds": 1.0,
        "peak_memory_bytes": 1,
        "options": {"downstream_expert": {"datarc": {"fold": f"fold{fold}"}, "metarc": {"inner_lr": 0.02}}},
        "episodes": episodes,
    }  # fmt: skip


def write(root, content, name=None):
    cell = content["cell"]
    folder = root / (name or f"{cell['system']}-{cell['fold']}-{cell['shots']}")
    folder.mkdir(parents=True)
    (folder / "result_test.json").write_text(json.dumps(content))
    return str(folder / "result_test.json")


def changed(content, path, value):
    content = copy.deepcopy(content)
    *owners, key = path.split("/")
    part = content
    for owner in owners:
        part = part[owner]
    part[key] = value
    return content


# -- reading ---------------------------------------------------------------------------------------------------


def test_every_fold_of_a_cell_becomes_a_rater_of_it(tmp_path):
    for fold, system in itertools.product((1, 2, 3), ("Linear-Zero", "Linear-Few")):
        write(tmp_path, result(system, fold))
    write(tmp_path, result(fold=1, shots=8))
    cells = group(load_results(tmp_path))
    cell = Cell("demo", "fbank_no_cmvn", "frozen", "seen", "Linear-Few", 32, "paper")
    assert list(cells[cell]) == list(RATERS[:3])
    assert sorted((c.system, c.shots) for c in cells) == [("Linear-Few", 32), ("Linear-Zero", 8), ("Linear-Zero", 32)]
    expected = scored("C-E2", 0.5)[1].probabilities
    np.testing.assert_array_equal(cells[cell]["C-E2"][1].probabilities, expected)


def test_results_that_are_read_for_a_report_are_the_same_in_less_memory(tmp_path):
    for fold in (1, 2):
        write(tmp_path, result("Meta-PerSER", fold))
    (small,) = load_by_task(tmp_path, None, lambda task: FREE_OPTIONS).values()
    for one, other in zip(load_results(tmp_path), small, strict=True):
        (mine,), (theirs,) = one.scored.values(), other.scored.values()
        for a, b in zip(mine, theirs, strict=True):
            assert list(a.query) == list(b.query)
            np.testing.assert_array_equal(a.probabilities, b.probabilities)
            np.testing.assert_array_equal(a.counts, b.counts)
        assert other.episodes[0].probabilities.nbytes == 40 * 9 * 8
        assert (one.key, one.file, one.options) == (other.key, other.file, other.options)


def test_what_a_new_run_set_aside_is_not_read(tmp_path):
    write(tmp_path, result())
    write(tmp_path, changed(result(), "hashes/corpus", "older"), "Linear-Zero-fold1-32/previous-2026-01-01-00-00-00")
    assert len(load_results(tmp_path)) == 1


def test_two_files_of_one_cell_and_fold_are_an_error_that_names_both(tmp_path):
    names = [write(tmp_path, result(), "one"), write(tmp_path, result(seed=1), "two")]
    with pytest.raises(UserError, match="both results for cell") as error:
        load_results(tmp_path)
    assert all(name in str(error.value) for name in names)


@pytest.mark.parametrize(
    ("other", "path", "value", "difference"),
    [
        ("Meta-PerSER", "hashes/corpus", "d", "corpus hash is c in the first and d .*Nothing but the labels differs"),
        ("Meta-PerSER", "classes", CLASSES[::-1], "classes"),
        ("Meta-PerSER", "cell/protocol", "tuned", "protocol is paper in the first and tuned"),
        ("Meta-PerSER", "cell/queries", 64, r"queries \(Q\) is 40 in the first and 64"),
        ("Meta-PerSER", "cell/seeds", [0, 1], "seeds"),
        ("Meta-PerSER", "cell/steps", 10, "steps is 50 in the first and 10"),
        ("Meta-PerSER", "hashes/episodes", "others", "episodes"),
        ("Meta-PerSER", "hashes/upstream_checkpoint", "newer", "upstream checkpoint is c in the first and newer"),
        ("Meta-PerSER", "hashes/features", "normalised", "what features are made of is c in the first and norm"),
        ("Meta-PerSER", "raters/validation", "C-E8", "validation rater is C-E9 in the first and C-E8"),
        ("Meta-PerSER", "raters/train", ["C-F1"], "training raters"),
    ],
)
def test_results_that_one_table_must_not_mix_are_named_with_their_difference(tmp_path, other, path, value, difference):
    names = [write(tmp_path, result()), write(tmp_path, changed(result(other), path, value))]
    with pytest.raises(UserError, match=difference) as error:
        load_results(tmp_path)
    assert all(name in str(error.value) for name in names)


def test_a_system_that_adapts_in_one_step_stands_beside_those_that_take_many(tmp_path):
    for name in ("Meta-PerSER", "Meta-Map", "Ridge-MAP:chosen"):
        write(tmp_path, changed(result(name), "cell/steps", 50 if name == "Meta-PerSER" else 1), name)
    assert len(load_results(tmp_path)) == 3


def own(system, corpus, **datarc):
    found = changed(result(system, corpus="ratings_csv"), "hashes/corpus", corpus)
    return changed(found, "options/downstream_expert/datarc", {"corpus": "ratings_csv", "fold": "fold1", **datarc})


def test_corpora_of_one_reader_get_names_in_words_from_what_they_were_read_with(tmp_path):
    for corpus, labels in (("a", "fluency.yaml"), ("b", "prosodic.yaml")):
        for system in ("Linear-Zero", "Meta-PerSER"):
            write(tmp_path, own(system, corpus, root="/one/data", labels=labels), f"{system}-{corpus}")
    found = load_results(tmp_path)
    assert {(r.cell.corpus, r.hashes.corpus) for r in found} == {
        ("ratings_csv (labels fluency.yaml)", "a"),
        ("ratings_csv (labels prosodic.yaml)", "b"),
    }
    assert all(r.file is not None for r in found)
    assert {c.first for c in compare(group(found))} == {"Linear-Zero"}
    assert len({c.setting for c in compare(group(found))}) == 2
    write(tmp_path, own("Linear-Few", "c", root="/one/data", labels="fluency.yaml"))
    with pytest.raises(UserError, match="Nothing but the labels differs"):
        load_results(tmp_path)


def test_corpora_in_folders_of_other_names_are_told_apart_by_them(tmp_path):
    for corpus in ("anna", "bert"):
        write(tmp_path, own("Linear-Zero", corpus, root=f"/data/{corpus}"), corpus)
    assert [r.cell.corpus for r in load_results(tmp_path)] == ["ratings_csv (anna)", "ratings_csv (bert)"]


def drawn(system, seed, corpus_seed=0, skill=0.5, fold=1):
    """A result of the demo corpus with a training seed and a corpus seed."""
    found = result(system, fold, skill, 10 * seed + corpus_seed, training_seed=seed)
    found = changed(found, "options/downstream_expert/datarc", {"fold": f"fold{fold}", "demo": {"seed": corpus_seed}})
    return changed(changed(found, "hashes/corpus", f"c{corpus_seed}"), "hashes/episodes", f"e{fold}{corpus_seed}")


def test_training_seeds_and_corpora_drawn_anew_are_replicates_of_one_cell(tmp_path):
    every = list(itertools.product((1, 2), (0, 5)))
    for system, (seed, corpus_seed) in itertools.product(("Linear-Zero", "Meta-PerSER"), every):
        write(tmp_path, drawn(system, seed, corpus_seed), f"{system}-{seed}-{corpus_seed}")
    write(tmp_path, drawn("Linear-Few", 1), "few")
    cells = group(load_results(tmp_path))
    assert {cell.corpus for cell in cells} == {"demo"}
    (episodes,) = cells[cell("Meta-PerSER")].values()
    assert {e.replicate for e in episodes} == {(seed, f"c{corpus_seed}") for seed, corpus_seed in every}
    assert len(episodes) == 12
    first, other = ({u for e in episodes if e.replicate[1] == c for u in e.query} for c in ("c0", "c5"))
    assert not first & other
    write(tmp_path, drawn("Linear-Few", 1), "twice")
    with pytest.raises(UserError, match="both results for cell"):
        load_results(tmp_path)


def test_systems_are_compared_on_the_training_seeds_that_both_have(tmp_path):
    for fold in (1, 2, 3):
        for seed in (1, 2):
            write(tmp_path, drawn("Meta-PerSER", seed, skill=0.9, fold=fold), f"meta{fold}{seed}")
        for seed in (2, 3):
            write(tmp_path, drawn("Linear-Zero", seed, fold=fold), f"zero{fold}{seed}")
    cells = group(load_results(tmp_path))
    (found,) = compare(cells, "Linear-Zero")
    both = {c: {r: [e for e in own if e.replicate == (2, "c0")] for r, own in by.items()} for c, by in cells.items()}
    (expected,) = compare(both, "Linear-Zero")
    assert found.per_rater == pytest.approx(expected.per_rater)
    assert found.estimate.error == pytest.approx(expected.estimate.error)


def test_what_is_compared_across_scopes_has_the_same_episodes(tmp_path):
    write(tmp_path, result("Linear-Few"))
    write(tmp_path, result("Meta-PerSER", scope="finetuned", steps=20))
    load_results(tmp_path)
    write(tmp_path, changed(result("Entire-Few", scope="finetuned", steps=20), "hashes/episodes", "others"))
    with pytest.raises(UserError, match="episodes is others in the first and e1"):
        load_results(tmp_path)


def test_folds_of_one_cell_share_their_options_but_not_where_they_ran(tmp_path):
    other = changed(result(fold=2), "options/downstream_expert/datarc/root", "/elsewhere")
    write(tmp_path, result())
    write(tmp_path, other)
    load_results(tmp_path)
    write(tmp_path, changed(result(fold=3), "options/downstream_expert/metarc/inner_lr", 0.5))
    with pytest.raises(UserError, match=r"metarc.inner_lr is 0.02 in the first and 0.5 in the second"):
        load_results(tmp_path)


def test_one_protocol_can_be_asked_for(tmp_path):
    write(tmp_path, result())
    write(tmp_path, result("Linear-Few", steps=10, protocol="tuned"))
    write(tmp_path, result("Meta-PerSER", steps=25, protocol="tuned"))
    assert {r.cell.system for r in load_results(tmp_path, "tuned")} == {"Linear-Few", "Meta-PerSER"}
    with pytest.raises(UserError, match="Did you mean 'tuned'"):
        load_results(tmp_path, "tunned")


def test_other_schemas_and_empty_folders_are_errors(tmp_path):
    with pytest.raises(UserError, match="holds no result_test"):
        load_results(tmp_path)
    name = write(tmp_path, changed(result(), "schema", 1))
    with pytest.raises(UserError, match="schema 1") as error:
        load_results(tmp_path)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("cell", [], r"cell must be a mapping of .*, got \[\]"),
        ("cell/system", None, r"The key cell\.system is missing"),
        ("cell/shots", "many", r"Bad value 'many' for cell\.shots, expected a whole number"),
        ("hashes/episodes", None, r"The key hashes\.episodes is missing"),
        ("raters", None, "The key raters is missing"),
        ("counts/shots_used", None, r"The key counts\.shots_used is missing"),
        ("versions", None, "The key versions is missing"),
        ("episodes", [], "episodes is empty"),
        ("episodes", [{"query": []}], r"The key episodes\[0\]\.seed is missing"),
    ],
)
def test_a_file_that_is_not_whole_is_one_error_that_names_the_key(tmp_path, path, value, what):
    content = changed(result(), path, value)
    *owners, key = path.split("/")
    if value is None:
        del (content[owners[0]] if owners else content)[key]
    (tmp_path / "result_test.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"result_test\.json: {what}"):
        load_results(tmp_path)


# -- one cell --------------------------------------------------------------------------------------------------


def test_a_summary_is_seeds_then_raters_and_knows_the_worst_rater():
    skills = dict(zip(RATERS, (0.9, 0.3, 0.7, 0.6, 0.8), strict=True))
    summary = summarise({r: scored(r, s) for r, s in skills.items()})
    for metric in NAMES:
        means = {
            r: np.mean([episode_scores(e.probabilities, e.counts, LABEL_SET)[metric] for e in scored(r, s)])
            for r, s in skills.items()
        }
        assert summary.intervals[metric].mean == pytest.approx(np.mean(list(means.values())))
        assert {r: s[metric].mean for r, s in summary.per_rater.items()} == pytest.approx(means)
        assert summary.worst[metric] == ("C-E2", pytest.approx(means["C-E2"]))
    assert summary.improved is None
    assert summary.episodes == 15


def test_the_share_of_raters_improved_is_counted_against_the_zero_shot_system_of_the_scope():
    zero = {r: scored(r, 0.5, seed=1) for r in RATERS}
    better = {r: scored(r, 0.95 if r in RATERS[:3] else 0.05, seed=2) for r in RATERS}
    cells = {cell("Linear-Zero"): zero, cell("Meta-PerSER"): better, cell("Meta-PerSER", scope="finetuned"): better}
    summaries = summarise_all(cells)
    shares = [summaries[cell(name)].improved for name in ("Meta-PerSER", "Linear-Zero")]
    assert [{name: share[name] for name in NAMES} for share in shares] == [
        dict.fromkeys(NAMES, 3 / 5),
        dict.fromkeys(NAMES, 0),
    ]
    assert summaries[cell("Meta-PerSER", scope="finetuned")].improved is None


def cell(system, scope="frozen", shots=32):
    return Cell("demo", "fbank_no_cmvn", scope, "seen", system, shots, "paper")


# -- calibration -----------------------------------------------------------------------------------------------


def soft(seed=0, size=200, classes=5):
    generator = np.random.default_rng(seed)
    ticks = generator.integers(0, 3, size=(size, classes)) + np.eye(classes)[generator.integers(classes, size=size)]
    return generator.dirichlet(np.ones(classes), size=size), ticks / ticks.sum(1, keepdims=True)


def test_brier_score_is_scikit_learns_where_every_utterance_has_one_tick():
    probabilities, _ = soft()
    truth = np.random.default_rng(1).integers(5, size=200)
    expected = brier_score_loss(truth, probabilities, labels=range(5), scale_by_half=False)
    assert fit.brier_score(probabilities, np.eye(5)[truth]) == pytest.approx(expected)


def test_calibration_error_is_the_loops_over_classes_and_bins():
    probabilities, shares = soft()
    probabilities[0] = [0.0, 0.1, 0.2, 0.3, 0.4]  # edges belong to the bin below
    total = 0.0
    for c in range(5):
        for b in range(10):
            inside = [i for i, p in enumerate(probabilities[:, c]) if b / 10 < p <= (b + 1) / 10 or (b == 0 and p == 0)]
            if inside:
                gap = np.mean(probabilities[inside, c]) - np.mean(shares[inside, c])
                total += len(inside) / len(probabilities) * abs(gap) / 5
    assert fit.expected_calibration_error(probabilities, shares) == pytest.approx(total)


def test_what_is_right_on_average_is_calibrated_and_what_is_overconfident_is_not():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(9), size=20_000)
    ticks = np.stack([generator.multinomial(1, p) for p in probabilities])
    sure = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert fit.expected_calibration_error(probabilities, ticks) < 0.01
    assert fit.expected_calibration_error(sure, ticks) > 0.05
    assert fit.brier_score(probabilities, ticks) < fit.brier_score(sure, ticks)


def test_divergence_is_the_mean_of_two_relative_entropies_in_bits():
    p, q = soft()
    middle = (p + q) / 2
    expected = np.mean((stats.entropy(p, middle, base=2, axis=1) + stats.entropy(q, middle, base=2, axis=1)) / 2)
    assert fit.jensen_shannon_divergence(p, q) == pytest.approx(expected)
    assert fit.jensen_shannon_divergence(p, p) == pytest.approx(0, abs=1e-12)
    assert fit.jensen_shannon_divergence(np.eye(3)[[0]], np.eye(3)[[1]]) == pytest.approx(1)


def test_calibration_pools_a_raters_episodes_and_averages_over_raters():
    raters = {r: scored(r, 0.5) for r in RATERS[:2]}
    found = fit.average([fit.rater_calibration(episodes) for episodes in raters.values()])
    expected = []
    for episodes in raters.values():
        p, t = (np.concatenate([getattr(e, n) for e in episodes]) for n in ("probabilities", "counts"))
        expected.append(fit.expected_calibration_error(p, t))
    assert found.ece == pytest.approx(np.mean(expected))


# -- comparisons -----------------------------------------------------------------------------------------------


def systems(**skills):
    return {cell(n.replace("_", "-")): {r: scored(r, s, i) for r in RATERS} for i, (n, s) in enumerate(skills.items())}


def test_holm_is_bonferroni_on_every_subset_of_hypotheses():
    generator = np.random.default_rng(0)
    for _ in range(20):
        p = np.round(generator.random(5) ** 3, 2)
        subsets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
        closed = [max(min(1, len(s) * p[list(s)].min()) for s in subsets if i in s) for i in range(5)]
        np.testing.assert_allclose(holm(p), closed)


def test_each_pair_is_compared_once_or_each_system_with_one():
    cells = systems(Linear_Zero=0.5, Linear_Few=0.6, Meta_PerSER=0.7)
    pairs = [(c.first, c.second) for c in compare(cells)]
    assert pairs == [("Linear-Zero", "Linear-Few"), ("Linear-Zero", "Meta-PerSER"), ("Linear-Few", "Meta-PerSER")]
    assert [c.second for c in compare(cells, "Meta-PerSER")] == ["Meta-PerSER"] * 2
    assert [c.second for c in compare(cells, "zero-shot")] == ["Linear-Zero"] * 2
    assert compare(cells, "Entire-Zero") == []


def test_the_difference_is_that_of_the_raters_means():
    cells = systems(Linear_Zero=0.5, Meta_PerSER=0.9)
    (found,) = compare(cells, "zero-shot", metric="micro_f1")
    for rater in RATERS:
        one, other = (
            np.mean([episode_scores(e.probabilities, e.counts, LABEL_SET)["micro_f1"] for e in raters[rater]])
            for raters in cells.values()
        )
        assert found.per_rater[rater] == pytest.approx(other - one)
    assert found.difference.mean == pytest.approx(np.mean(list(found.per_rater.values())))


def test_a_real_difference_is_told_in_words_and_chance_is_not():
    (found,) = compare(systems(Linear_Zero=0.5, Meta_PerSER=0.9))
    assert found.told_apart
    assert found.verdict.startswith("Meta-PerSER is better than Linear-Zero by ")
    (found,) = compare(systems(Linear_Zero=0.5, Meta_PerSER=0.5))
    assert not found.told_apart
    assert found.verdict.startswith("Linear-Zero and Meta-PerSER cannot be told apart")


def test_a_system_and_its_copy_cannot_be_told_apart_at_all():
    same = {r: scored(r, 0.5) for r in RATERS}
    (found,) = compare({cell("A"): same, cell("B"): same})
    assert (found.p, found.difference.low, found.difference.high) == (1, 0, 0)


def test_interval_and_test_always_agree_alone_and_after_holm():
    cells = systems(**{f"S{i}": 0.5 + s for i, s in enumerate((0, 0.01, 0.13, 0.2, 0.45))})
    seen = set()
    for found in compare(cells):
        for p, span in ((found.p, found.difference), (found.p_holm, found.adjusted)):
            assert (p < 0.05) == (not span.low <= 0 <= span.high)
        assert found.adjusted.low <= found.difference.low
        assert found.p_holm >= found.p
        assert ("cannot be told apart" in found.verdict) == (not found.told_apart)
        seen.add((found.p < 0.05, found.told_apart))
    assert seen == {(True, True), (True, False), (False, False)}


def test_the_interval_in_a_verdict_never_contradicts_it():
    cells = systems(**{f"S{i}": 0.5 + s for i, s in enumerate((0, 0.01, 0.13, 0.2, 0.45))})
    undecided = [c for c in compare(cells) if not c.told_apart]
    assert any(c.p < 0.05 for c in undecided)
    for found in undecided:
        low, high = (float(number) for number in re.findall(r"[+-]\d+\.\d", found.verdict))
        assert low <= 0 <= high
        assert ("before correction" in found.verdict) == ("corrected, the difference" in found.verdict)


def test_settings_are_not_mixed_and_families_are_their_own():
    few = {cell(n, shots=8): {r: scored(r, 0.5, i) for r in RATERS} for i, n in enumerate(("Linear-Zero", "Random"))}
    found = compare({**systems(Linear_Zero=0.5, Linear_Few=0.6, Meta_PerSER=0.7), **few})
    assert [(c.setting.shots, c.family) for c in found] == [(8, 1), (32, 3), (32, 3), (32, 3)]


def test_only_raters_that_both_were_tested_on_count_and_below_three_nothing_is_called_better():
    cells = systems(Linear_Zero=0.1, Linear_Few=0.5, Meta_PerSER=0.95)
    for rater in RATERS[3:]:
        del cells[cell("Meta-PerSER")][rater]
    zero, few = compare(cells, "Meta-PerSER")
    assert (few.family, zero.family, zero.told_apart) == (2, 2, True)
    del cells[cell("Linear-Few")]["C-E1"]
    zero, few = compare(cells, "Meta-PerSER")
    assert (few.raters, few.told_apart, few.p_holm) == (("C-E2", "C-E4"), False, 1.0)
    assert "cannot be told apart: 2 raters say too little about others" in few.verdict
    assert (zero.family, zero.p_holm) == (1, zero.p)  # what has no verdict is not corrected for
    del cells[cell("Linear-Few")]
    del cells[cell("Meta-PerSER")]["C-E2"], cells[cell("Meta-PerSER")]["C-E4"]
    (found,) = compare(cells)
    assert found.raters == ("C-E1",)
    assert "rater C-E1 alone" in found.verdict
    assert not found.told_apart
    del cells[cell("Meta-PerSER")]["C-E1"]
    assert compare(cells) == []


def test_other_episodes_of_one_rater_are_an_error_that_names_it():
    cells = systems(Linear_Zero=0.5, Meta_PerSER=0.7)
    cells[cell("Meta-PerSER")]["C-E4"] = scored("C-E4", 0.7, queries=39)
    with pytest.raises(UserError, match=r"rater C-E4.*different episodes"):
        compare(cells)
