"""Many results as one static page: a board for each setting, and groups that cannot be told apart drawn as such."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import MANY, check_compatible, result_files, scored_of
from s3prl_metaperser.evaluation.corpora_apart import told_apart
from s3prl_metaperser.evaluation.metrics import METRICS, Metric, metric_for, metrics_for
from s3prl_metaperser.evaluation.ranking import Ranking, ranked
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Cell, Setting
from s3prl_metaperser.evaluation.statistics import Influences, influences
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.at_once import at_once
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.html_text import templates
from s3prl_metaperser.tasks import task_of

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Board:
    """The systems of one setting.

    Attributes:
        task: the task family.
        setting: what they share.
        ranking: their order.
        doubts: what results in it say against themselves.
    """

    task: str
    setting: Setting
    ranking: Ranking
    doubts: tuple[str, ...]

    @property
    def tested(self) -> str:
        """Who was tested: ``5 raters``."""
        task, many = task_of(self.task), len(self.ranking.raters)
        return f"{many} {task.unit if many == 1 else task.units}"

    def scale(self, value: float) -> float:
        """Where a value stands between the least and the greatest end of an interval here, in percent."""
        low, high = self._ends
        return round(100 * (value - low) / (high - low), 1) if high > low else 50.0

    @functools.cached_property
    def _ends(self) -> tuple[float, float]:
        spans = [self.ranking.spans[name] for name in self.ranking.systems]
        return min(span.low for span in spans), max(span.high for span in spans)

    @property
    def columns(self) -> list[list[tuple[int, int]]]:
        """The ranking's groups in as few columns as keep those that overlap apart."""
        found: list[list[tuple[int, int]]] = []
        for group in self.ranking.groups:
            free = next((column for column in found if column[-1][1] < group[0]), None)
            found.append([group]) if free is None else free.append(group)
        return found


def boards(folder: Path, metric: str | None = None) -> list[Board]:
    """The boards of all results below a folder, by task and setting.

    Args:
        metric: a registered name; by default the first one of each label set.

    Raises:
        UserError: an unknown metric, no results, a damaged one, or results that one table must not mix
            (:func:`.check_compatible`).
    """
    if metric is not None:
        METRICS.get(metric)  # an unknown one is told before thousands of files are read
    files = result_files(folder)
    if not files:
        raise UserError(f"{folder} holds no results. Run -m evaluate first, or name another folder.")
    read = at_once(lambda path: _slim(Result.read(path), metric), files, few=MANY, chunk=8)
    slim = list(tqdm(read, desc="reading results", unit="file", total=len(files), delay=3.0))
    by_family: dict[tuple[str, str], list[tuple[Result, Metric, dict[str, Influences]]]] = {}
    for each in slim:
        by_family.setdefault((each[0].task, each[0].cell.protocol), []).append(each)
    found = []
    for (task, _), mine in sorted(by_family.items()):
        results = told_apart([result for result, *_ in mine])
        check_compatible(results)
        found += _family(task, results, [(m, own) for _, m, own in mine], metric)
    return found


def _slim(result: Result, metric: str | None) -> tuple[Result, Metric, dict[str, Influences]]:
    """A result without its predictions, and what a ranking needs of them."""
    chosen = metrics_for(result.answers)[0] if metric is None else metric_for(result.answers, metric)
    own = {rater: influences(episodes, (chosen,)) for rater, episodes in result.scored.items()}
    without = dataclasses.replace(result, episodes=(), trajectory=None, controls=None, curves=None)
    object.__setattr__(without, "file", result.file)
    return without, chosen, own


def _family(
    task: str, results: Sequence[Result], known: Sequence[tuple[Metric, dict[str, Influences]]], metric: str | None
) -> list[Board]:
    """The boards of one task and protocol."""
    files: dict[Cell, list[int]] = {}
    for at, result in enumerate(results):
        files.setdefault(result.key, []).append(at)
    settings: dict[Setting, list[Cell]] = {}
    for cell in files:
        settings.setdefault(cell.setting, []).append(cell)
    found = []
    for setting in sorted(settings):
        mine = {cell.system: files[cell] for cell in settings[setting]}
        systems = {name: _of_cell([results[at] for at in ats], [known[at] for at in ats]) for name, ats in mine.items()}
        doubts = dict.fromkeys(d for ats in mine.values() for at in ats for d in results[at].doubts)
        chosen = known[next(iter(mine.values()))[0]][0]
        found.append(Board(task, setting, ranked(systems, chosen), tuple(doubts)))
    return found


def _of_cell(
    results: Sequence[Result], known: Sequence[tuple[Metric, Mapping[str, Influences]]]
) -> dict[str, Influences]:
    """Rater -> influences; where a rater was tested in several trainings, of all of them together."""
    folds = [result.cell.fold for result in results]
    if len(set(folds)) == len(folds):
        return {rater: own for _, each in known for rater, own in each.items()}
    whole = [dataclasses.replace(Result.read(result.file), cell=result.cell) for result in results if result.file]
    return {rater: influences(episodes, (known[0][0],)) for rater, episodes in scored_of(whole).items()}


def write_leaderboard(found: Iterable[Board], out: Path, title: str) -> int:
    """Write the page: no network, no script. Returns its size in bytes."""
    text = templates(_TEMPLATES).get_template("leaderboard.html").render(boards=list(found), title=title)
    write_text(out, text)
    return len(text.encode())
