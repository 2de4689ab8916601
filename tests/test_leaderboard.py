"""``metaperser leaderboard``: the ranking is that of the paired comparisons, and the page draws what it says."""

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from test_report import write_results

from s3prl_metaperser.cli import main
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import group, load_results
from s3prl_metaperser.evaluation.compare import compare
from s3prl_metaperser.evaluation.ranking import _groups
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.exchange.leaderboard import boards

SYSTEMS = ("Random", "Linear-Few", "Linear-Zero", "Meta-PerSER", "Multi-Few", "Linear-Sim")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, SYSTEMS)
    write_results(folder, ["Random", "Meta-PerSER"], shots=8)
    return folder


@pytest.mark.parametrize("metric", [None, "unweighted_accuracy", "nats"])
def test_every_pair_has_the_p_of_the_paired_comparisons(folder, metric):
    first = boards(folder, metric)[1]
    assert (first.setting.shots, set(first.ranking.systems)) == (32, set(SYSTEMS))
    place = {name: at for at, name in enumerate(first.ranking.systems)}
    cells = {cell: raters for cell, raters in group(load_results(folder)).items() if cell.shots == 32}
    compared = compare(cells, metric=first.ranking.metric.name)
    assert len(compared) == 15
    for each in compared:
        ours = first.ranking.p_holm[place[each.first], place[each.second]]
        assert ours == pytest.approx(each.p_holm, rel=1e-6, abs=1e-12)
        better = each.first if each.metric.better(each.difference.mean, 0.0) else each.second
        assert place[better] == min(place[each.first], place[each.second])
        run = any(a <= min(place[each.first], place[each.second]) <= max(place[each.first], place[each.second]) <= b
                  for a, b in first.ranking.groups)  # fmt: skip
        assert not (run and each.told_apart)


def test_groups_are_the_longest_runs_of_which_no_two_are_told_apart():
    p = np.ones((6, 6))
    for one, other in ((0, 2), (0, 3), (1, 4), (3, 5)):
        p[one, other] = p[other, one] = 0.01
    found = _groups(p)
    assert found == ((0, 1), (1, 3), (2, 4), (4, 5))
    for start, end in found:
        assert (p[start : end + 1, start : end + 1] >= 0.05).all()
        assert start == 0 or (p[start - 1, start : end + 1] < 0.05).any()
        assert end == 5 or (p[start : end + 1, end + 1] < 0.05).any()


def test_the_page_shows_places_intervals_and_lines_without_a_script_or_a_network(folder, tmp_path, capsys):
    assert main(["leaderboard", str(folder), "--out", str(tmp_path / "page.html"), "--title", "A & B"]) == 0
    assert "8 systems in 2 settings" in capsys.readouterr().out
    text = (tmp_path / "page.html").read_text()
    root = ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>", "", text))
    assert "A &amp; B" in text
    assert not re.search(r"<script|https?://", text)
    tables = root.findall(".//table")
    assert [len(table.findall("tbody/tr")) for table in tables] == [2, 6]
    rows = [[cell.text for cell in row][:4] for row in tables[1].findall("tbody/tr")]
    best = boards(folder)[1].ranking
    span = best.spans[best.systems[0]]
    assert rows[0] == ["1", best.systems[0], f"{100 * span.mean:.1f}", f"{100 * span.low:.1f} to {100 * span.high:.1f}"]
    assert [row[1] for row in rows] == list(best.systems)
    titles = [title.text for title in root.findall(".//svg/line/title")]
    assert [f"places {a + 1} to {b + 1}" for a, b in best.groups] == [
        t for t in titles if t in titles[-len(best.groups) :]
    ]


def test_two_raters_draw_no_groups_and_a_system_with_fewer_raters_has_no_place(tmp_path):
    write_results(tmp_path / "two", ["Random", "Linear-Zero"], raters=("C-E1", "C-E2"))
    (board,) = boards(tmp_path / "two")
    assert board.ranking.too_few
    assert board.ranking.groups == ()
    write_results(tmp_path / "some", ["Random", "Linear-Zero"])
    write_results(tmp_path / "some", ["Linear-Few"], raters=("C-E1", "C-E2", "C-E4", "C-E5"))
    (board,) = boards(tmp_path / "some")
    assert board.ranking.incomplete == ("Linear-Few",)
    assert set(board.ranking.systems) == {"Random", "Linear-Zero"}


def test_a_rater_of_two_trainings_is_one_rater(tmp_path):
    write_results(tmp_path, ["Random", "Linear-Zero"])
    first = boards(tmp_path)[0].ranking
    for file in sorted(tmp_path.rglob("result_test.json")):
        content = json.loads(file.read_text())
        content["cell"]["training_seed"] = 7
        (file.parent.parent / f"again-{file.parent.name}").mkdir()
        (file.parent.parent / f"again-{file.parent.name}" / file.name).write_text(json.dumps(content))
    again = boards(tmp_path)[0].ranking
    assert again.systems == first.systems
    for name in first.systems:
        assert again.spans[name].mean == pytest.approx(first.spans[name].mean)


def test_an_unknown_metric_is_one_error_before_any_result_is_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Result, "read", None)
    with pytest.raises(UserError, match=r"Unknown metric 'macro_f2'\. Did you mean 'macro_f1'"):
        boards(folder, "macro_f2")


def test_files_that_do_not_go_together_and_an_empty_folder_are_one_error(folder, tmp_path, capsys):
    with pytest.raises(UserError, match="holds no results"):
        boards(tmp_path)
    write_results(tmp_path, ["Random"], corpus_hash="c" * 64)
    write_results(tmp_path, ["Linear-Few"], corpus_hash="d" * 64)
    assert main(["leaderboard", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert "do not go together" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
    assert isinstance(Result.read(next(folder.rglob("result_test.json"))), Result)
