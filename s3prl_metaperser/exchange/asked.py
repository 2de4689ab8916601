"""Whose episodes are asked for: a grid, an experiment, or options alone, as folds of a corpus at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.config.options import DataOptions, ExpertOptions, Options
from s3prl_metaperser.config.section import with_values
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.tasks import DEFAULT_TASK, task_of

if TYPE_CHECKING:
    from s3prl_metaperser.corpora import Corpus
    from s3prl_metaperser.corpora.contents import Contents
    from s3prl_metaperser.run.workspace import Workspace

#: All folds that a corpus has.
ALL = "all"
_FOLD = "downstream_expert.datarc.fold"


def workspaces(
    what: Path | None = None,
    *,
    corpus: str | None = None,
    root: str | None = None,
    only: str | None = None,
    changes: Sequence[str] = (),
    folds: Sequence[str] = (),
) -> list[Workspace]:
    """One workspace for each fold with episodes of its own; the options that none of them depends on are the defaults.

    Args:
        what: a grid's YAML file or its name, an experiment's folder or checkpoint; without it
            the configuration file's options.
        corpus, root: in place of theirs.
        changes: options, such as ``downstream_expert.evalrc.shots=8``.
        folds: in place of an experiment's or the options' own fold; ``all`` for every one.

    Raises:
        UserError: there is no such thing, it is of another task, or its corpus is not at hand; an option or a fold that
            does not exist.
    """
    from s3prl_metaperser.corpora import open_corpus
    from s3prl_metaperser.grid.definition import is_grid
    from s3prl_metaperser.protocol.episodes import key_of
    from s3prl_metaperser.run.workspace import Workspace

    from_grid = what is not None and what.suffix != ".ckpt" and is_grid(str(what))
    if from_grid and folds:
        raise UserError("--folds is for options and experiments. Of a grid choose cells: --only 'fold=fold1|fold2'.")
    if only is not None and not from_grid:
        raise UserError("--only chooses cells of a grid, and none is named.")
    if from_grid:
        asked = _of_grid(str(what), corpus, root, only, changes)
    else:
        own = _changed(_of_experiment(what) if what is not None else _defaults(), corpus, root, changes)
        asked = [own] if not folds or folds == (ALL,) else [with_values(own, {_FOLD: fold}) for fold in folds]
    read: dict[DataOptions, Corpus] = {}
    found: dict[tuple[str, str], Workspace] = {}
    contents: dict[str, Contents] = {}
    for options in asked:
        datarc = options.downstream_expert.datarc
        same = dataclasses.replace(datarc, fold="", scenario="")
        if same not in read:
            read[same] = open_corpus(datarc)
        for fold in _folds(options, read[same]) if folds == (ALL,) else [datarc.fold]:
            workspace = Workspace(with_values(options, {_FOLD: fold}), read[same])
            workspace.contents = contents.setdefault(workspace.corpus.fingerprint(), workspace.contents)
            found.setdefault((workspace.corpus.name, key_of(workspace.episodes("test"))), workspace)
    return list(found.values())


def _of_grid(
    grid: str, corpus: str | None, root: str | None, only: str | None, changes: Sequence[str]
) -> list[Options]:
    from s3prl_metaperser.grid.opened import open_grid

    opened = open_grid(grid, corpus=corpus, root=root, only=only, changes=changes)
    cells = [cell for cell in opened.cells if cell.family == DEFAULT_TASK]
    if not cells:
        raise UserError(f"{grid}: no cell is of the task {DEFAULT_TASK}, the one with listeners.")
    return list(dict.fromkeys(_without_training(cell.options) for cell in cells))


def _of_experiment(what: Path) -> Options:
    from s3prl_metaperser.run.experiment import BEST
    from s3prl_metaperser.storage.checkpoints import read_checkpoint

    path = what / BEST if what.is_dir() else what
    if not path.is_file():
        raise UserError(f"{what}: neither a grid (a YAML file) nor an experiment folder (it has no {BEST}).")
    content = read_checkpoint(path)
    task = getattr(content.get("Args"), "downstream", DEFAULT_TASK)
    if task != DEFAULT_TASK:
        raise UserError(f"{what} is of the task {task}, which has no listeners. Expected one of {DEFAULT_TASK}.")
    return task_of(task).options_from(content["Config"], str(path), stored=True)


def _defaults() -> Options:
    from s3prl_metaperser.config.yaml_files import read_yaml

    task = task_of(DEFAULT_TASK)
    path = task.configuration("frozen")
    return task.options_from({} if path is None else read_yaml(path))


def _changed(options: Options, corpus: str | None, root: str | None, changes: Sequence[str]) -> Options:
    from s3prl_metaperser.config.options import merged
    from s3prl_metaperser.grid.cells import change_of
    from s3prl_metaperser.storage.paths import user_path

    config = options.as_config()
    if corpus is not None and corpus != options.downstream_expert.datarc.corpus:
        evalrc = config["downstream_expert"]["evalrc"]
        config = merged(_defaults().as_config(), {"downstream_expert": {"evalrc": evalrc}})
        config["downstream_expert"]["datarc"]["corpus"] = corpus
    if root is not None:
        config["downstream_expert"]["datarc"]["root"] = str(user_path(root).resolve())
    for text in changes:
        config = merged(config, change_of(text))
    return _without_training(task_of(DEFAULT_TASK).options_from(config, "options", stored=True))


def _without_training(options: Options) -> Options:
    """What episodes and their scores depend on; the rest as it is by default, so that all folds have the same."""
    expert = options.downstream_expert
    kept = ExpertOptions(datarc=expert.datarc, modelrc=expert.modelrc, evalrc=expert.evalrc)
    return Options(downstream_expert=kept)


def _folds(options: Options, corpus: Corpus) -> list[str]:
    """Every fold of a corpus: of pools as many as they have, else one for each test rater."""
    from s3prl_metaperser.protocol.pools import fold_names
    from s3prl_metaperser.protocol.splits import default_test_raters

    data = options.downstream_expert.datarc
    if data.pools.test is not None:
        return list(fold_names(data.pools))
    excluded = corpus.suggested.excluded_raters if data.exclude_raters is None else data.exclude_raters
    raters = data.test_raters or default_test_raters(corpus, excluded)
    return [f"fold{number}" for number in range(1, len(raters) + 1)]
