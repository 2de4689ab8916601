"""Result files, read together: which belong to one table, and which must not be mixed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import flat, options_that_affect
from s3prl_metaperser.corpora.replicates import drawn_by
from s3prl_metaperser.errors import UserError, listed, unknown_name
from s3prl_metaperser.evaluation.corpora_apart import reader_of, told_apart
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Cell, Setting
from s3prl_metaperser.evaluation.statistics import Episodes, Scored, influences
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.storage.at_once import at_once

RESULT = "result_test.json"
#: From so many files on a report has them read by several processes.
MANY = 200
PROTOCOLS = ("paper", "tuned")

#: Options that may differ between the folds of one cell.
FREE_OPTIONS = {"downstream_expert.datarc.fold", *options_that_affect("summary", "speed", "files")}


def load_by_task(
    folder: Path, protocol: str | None, free_options: Callable[[str], Collection[str]]
) -> dict[str, list[Result]]:
    """Task -> its results, as :func:`load_results`, which takes those of one task; :meth:`.Result.compact`.

    Args:
        free_options: task -> options that may differ between the folds of one cell.

    Raises:
        UserError: as there.
    """
    by_task: dict[str, list[Result]] = {}
    for result in _checked(folder, protocol, _summed_up_all(result_files(folder))):
        by_task.setdefault(result.task, []).append(result)
    by_task = {task: told_apart(results) for task, results in by_task.items()}
    for task, results in by_task.items():
        check_compatible(results, free_options(task))
    return {task: _in_order(results) for task, results in by_task.items()}


def load_results(folder: Path, protocol: str | None = None) -> list[Result]:
    """Every ``result_test.json`` below a folder, checked for fitting together; ``previous-*`` folders are skipped.

    Different corpora of one reader get names of their own (:mod:`.corpora_apart`).

    Args:
        folder: searched with all its subfolders.
        protocol: ``paper`` or ``tuned``: leave out results of the other one. By default a mixture is an error.

    Returns:
        The results in the order of cells and folds.

    Raises:
        UserError: there are no results, a file cannot be read, is not whole or has another schema, there are two files
            for one cell and fold, or files disagree in what one table must share (see :func:`check_compatible`). The
            message names the files and the difference.

    Examples:
        >>> [str(result.key) for result in load_results(folder)]
        ['Linear-Zero: demo, fbank_no_cmvn (frozen), seen, K=8, protocol paper']
    """
    results = told_apart(_checked(folder, protocol, map(Result.read, result_files(folder))))
    check_compatible(results)
    return _in_order(results)


def _checked(folder: Path, protocol: str | None, read: Iterable[Result]) -> list[Result]:
    if protocol not in (None, *PROTOCOLS):
        raise unknown_name("protocol", str(protocol), PROTOCOLS)
    results = [result for result in read if protocol in (None, result.cell.protocol)]
    if not results:
        kind = "" if protocol is None else f" of protocol {protocol}"
        apart = f" {said}" if (said := said_of_other_results(folder)) else ""
        raise UserError(f"{folder} holds no {RESULT}{kind}. Run -m evaluate first, or name another folder.{apart}")
    return results


def _summed_up_all(paths: Sequence[Path]) -> Iterator[Result]:
    """Results as a report keeps them, in order; very many are read by as many processes as there are cores."""
    kept: dict[Any, Any] = {}
    for result in at_once(_summed_up, paths, few=MANY - 1, chunk=8):
        yield result.compact(kept)


def _summed_up(path: Path) -> Result:
    """Compact, with the influences of its raters."""
    found = Result.read(path).compact()
    known = {rater: influences(episodes) for rater, episodes in found.scored.items()}
    object.__setattr__(found, "known", known)
    return found


def _in_order(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda r: (r.key, r.cell.fold, r.cell.training_seed, r.hashes.corpus))


def by_cell(results: Iterable[Result]) -> dict[Cell, list[Result]]:
    """Cell -> its results, of all folds, training seeds and corpora drawn anew."""
    found: dict[Cell, list[Result]] = {}
    for result in results:
        found.setdefault(result.key, []).append(result)
    return found


def group(results: Iterable[Result]) -> dict[Cell, dict[str, Episodes]]:
    """Cell -> test rater -> its episodes, of all training seeds and corpora drawn anew. The raters are the folds."""
    return {cell: scored_of(mine) for cell, mine in by_cell(results).items()}


def scored_of(
    files: Sequence[Result], scored: Callable[[Result], Mapping[str, Sequence[Scored]]] = lambda result: result.scored
) -> dict[str, Episodes]:
    """Test rater -> its episodes in all results of one cell.

    With several training seeds or corpora drawn anew, episodes say which they are of (:attr:`.Scored.replicate`), and
    the utterances of different corpora are different ones.
    """
    corpora = sorted({result.hashes.corpus for result in files})
    several = len(files) > len({result.cell.fold for result in files})
    found: dict[str, Episodes] = {}
    for result in files:
        drawn = f"{corpora.index(result.hashes.corpus)}:" if len(corpora) > 1 else ""
        for rater, episodes in scored(result).items():
            if several or drawn:
                named = (result.cell.training_seed, result.hashes.corpus) if several else None
                episodes = [replace(e, query=[f"{drawn}{u}" for u in e.query], replicate=named) for e in episodes]
            if rater in found or not isinstance(episodes, Episodes):
                episodes = Episodes([*found.get(rater, ()), *episodes])
            found[rater] = episodes
    return found


#: What some systems fix, since they adapt in one step or in none.
STEPS = "downstream_expert.evalrc.steps"


def check_compatible(results: Sequence[Result], free_options: Collection[str] = FREE_OPTIONS) -> None:
    """Refuse results that one report must not mix.

    All results share the task and the protocol; those of one corpus its labels (hash), its audio (hash, where it was
    recorded) and classes; those of one corpus and upstream the upstream's checkpoint and, in one scope, what features
    are made of; those of one setting (see :class:`.Setting`) Q, the seeds and in each fold the raters and episodes,
    whatever the scope, and, in one scope and under ``paper``, the steps (of systems that take as many as
    ``evalrc.steps`` says); those of one cell all options but those that
    only say where and how fast it ran. Folds may differ in their training seed; several of one fold, or several corpora
    that differ in the seed with which they are drawn, are replicates. A cell, fold and replicate has one file.

    Raises:
        UserError: naming two files and their difference.
    """
    _agree(results, lambda r: "", {"task": lambda r: r.task}, "Report them one by one.")
    hint = "Report them one by one: --protocol paper, or tuned."
    _agree(results, lambda r: "", {"protocol": lambda r: r.cell.protocol}, hint)
    shared = {"classes": lambda r: r.classes, "corpus hash": lambda r: r.hashes.corpus}
    hint = (
        "Nothing but the labels differs, so that they have changed in between, or two corpora are of one name and in "
        "folders of one name: report them one by one, or evaluate again."
    )
    _agree(results, corpus_of, shared, hint)
    recorded = [r for r in results if r.hashes.audio is not None]
    hint = "The corpus's audio was changed in between. Restore it, or evaluate again what was made before."
    _agree(recorded, corpus_of, {"audio hash": lambda r: r.hashes.audio}, hint)
    for first, other in pairs(results, lambda r: (r.key, r.cell.fold, r.cell.training_seed, corpus_of(r))):
        where = f"{other.key}, {other.cell.fold}"
        raise UserError(f"{first.file} and {other.file} are both results for cell {where}. Remove one.")
    shared = {"upstream checkpoint": lambda r: r.hashes.upstream_checkpoint}
    _agree(results, lambda r: (r.cell.corpus, r.cell.upstream), shared)
    shared = {"what features are made of": lambda r: r.hashes.features}
    _agree(results, lambda r: (r.cell.corpus, r.cell.upstream, r.cell.scope), shared)
    _agree(results, _in_any_scope, {"queries (Q)": lambda r: r.cell.queries, "seeds": lambda r: r.cell.seeds})
    paired = {
        "test rater": lambda r: r.raters.test,
        "validation rater": lambda r: r.raters.validation,
        "training raters": lambda r: r.raters.train,
        "episodes": lambda r: r.hashes.episodes,
    }
    _agree(results, lambda r: (_in_any_scope(r), r.cell.fold, corpus_of(r)), paired)
    as_given = [r for r in results if r.cell.protocol == "paper" and STEPS not in facts_of(r.cell.system).fixed]
    _agree(as_given, lambda r: r.key.setting, {"steps": lambda r: r.cell.steps})
    _agree(results, lambda r: r.key, {"standardized": lambda r: r.cell.standardized})
    for first, other in pairs(results, lambda r: r.key):
        one, two = dict(flat(first.options)), dict(flat(other.options))
        for name in sorted(one.keys() | two.keys()):
            free = name in free_options or name == drawn_by(reader_of(first.cell.corpus))
            if not free and one.get(name) != two.get(name):
                hint = "The folds of one cell need the same options: run one of them again."
                raise UserError(_different(first, other, f"option {name}", one.get(name), two.get(name), hint))


def corpus_of(result: Result) -> tuple[str, Any]:
    """The corpus, and the seed with which it was drawn, where it was."""
    name = result.cell.corpus
    return name, result.option(*option.split(".")[1:]) if (option := drawn_by(reader_of(name))) else None


def _in_any_scope(result: Result) -> Setting:
    """The setting but for its scope: Linear-Few, always frozen, is compared with fine-tuned systems."""
    return replace(result.key.setting, scope="any scope")


def pairs(results: Iterable[Result], by: Callable[[Result], Hashable]) -> Iterator[tuple[Result, Result]]:
    """Within each group, its first result with each of the others."""
    first: dict[Hashable, Result] = {}
    for result in results:
        if (known := first.setdefault(by(result), result)) is not result:
            yield known, result


def _agree(
    results: Sequence[Result],
    by: Callable[[Result], Hashable],
    values: Mapping[str, Callable[[Result], Any]],
    hint: str = "Remove one, or evaluate again.",
) -> None:
    """Within each group, every value is that of the group's first result."""
    for first, other in pairs(results, by):
        for name, value in values.items():
            if value(first) != value(other):
                raise UserError(_different(first, other, name, value(first), value(other), hint))


def _different(one: Result, other: Result, name: str, here: Any, there: Any, hint: str) -> str:
    return (
        f"{one.file} and {other.file} do not go together: {name} is {_short(here)} in the first and {_short(there)} in "
        f"the second. {hint}"
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def result_files(folder: Path) -> list[Path]:
    """The result files below a folder, but for those that a new run set aside, in order.

    Raises:
        UserError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder.")
    return [path for path in sorted(Path(folder).rglob(RESULT)) if not set_aside(path.relative_to(folder))]


def said_of_other_results(folder: Path) -> str:
    """A sentence about results below a folder that no table is made of, since they are not of the cell that was
    trained there; empty where there are none."""
    stem = Path(RESULT).stem
    others = [path for path in sorted(Path(folder).rglob(f"{stem}-*.json")) if not set_aside(path.relative_to(folder))]
    if not others:
        return ""
    names, many = listed([path.name for path in others]), len(others) > 1
    return (
        f"{len(others)} result{'s' * many} of other cells than the trained one ({names}) {'are' if many else 'is'} not "
        "in it: evaluate into a folder of its own (-p) what a report is to show."
    )


def set_aside(path: Path) -> bool:
    """Whether a path below a results folder lies in one of its ``previous-*`` folders."""
    return any(part.startswith("previous-") for part in path.parts[:-1])
