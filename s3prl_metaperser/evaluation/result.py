"""The result of one cell, typed: everything that a table, figure or test is computed from, and the file that holds it.

``Result.read`` reads every version of the file since 0.1.0, ``Result.write`` writes the newest. The comment beside each
field is the documentation of its key; docs/results.md lists them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s3prl_metaperser.config import validator
from s3prl_metaperser.corpora.label_set import LabelSet, plain_counts
from s3prl_metaperser.corpora.label_sets import set_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation import READABLE, SCHEMA
from s3prl_metaperser.evaluation.metrics import METRICS, episode_scores
from s3prl_metaperser.evaluation.result_keys import (
    Cell,
    Control,
    Count,
    Counts,
    Episode,
    EvaluatedCell,
    Hashes,
    Point,
    Raters,
    Rows,
    Selected,
    Tuned,
)
from s3prl_metaperser.evaluation.statistics import Episodes, Influences, Interval, Scored, best_possible, intervals
from s3prl_metaperser.protocol.episodes import key_of
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.html_text import html_table
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.sources import code_that_ran, peak_memory, versions

if TYPE_CHECKING:
    from s3prl_metaperser.evaluation.meta_testing import EpisodeResult
    from s3prl_metaperser.protocol.episodes import EpisodeList

#: The task family of files that do not name one.
FIRST_TASK = "personalized_emotion"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One cell's result.

    Examples:
        >>> result = Result.read(folder / "result_test.json")
        >>> result.cell.system, result.counts.episodes, len(result.episodes[0].probabilities)
        ('Linear-Zero', 3, 24)
    """

    schema: Count  # version of this list; 3 and 4 are read
    task: str = FIRST_TASK  # the task family; since version 4
    cell: EvaluatedCell  # what was tested, and how
    classes: tuple[str, ...]  # their order is that of every array below
    label_set: LabelSet | None = None  # what raters may answer; since version 4
    raters: Raters  # who was tested, who chose, who trained
    counts: Counts  # K, Q and episodes, as asked for and as used
    metrics: dict[str, Interval]  # metric -> mean, low and high of a 95 % interval
    selected_step: Count  # the outer step whose state was tested; metarc.selection says how it was chosen
    selected: Selected | None = None  # what is known of that step's state
    tuned: Tuned | None = None  # null under the protocol paper
    threshold: float | None = None  # learned from training raters (evalrc.learned_threshold); left out without one
    engine: str  # how adaptation was computed: closed form, loop, adjoint (the whole model) or autograd
    episodes: tuple[Episode, ...]  # the predictions
    trajectory: tuple[Point, ...] | None = None  # after other numbers of steps; null where there is none
    controls: tuple[Control, ...] | None = None  # with labels that are not the listener's
    diverged: str | None = None  # how training ended early; what was tested is the last step before; left out without
    curves: dict[str, tuple[tuple[float, float], ...]] | None = None  # logged value -> (step, mean since the last)
    doubts: tuple[str, ...] = ()  # what may have leaked, was heard before, is unfinished or no test; left out without
    hashes: Hashes  # of what the numbers depend on
    options: dict[str, Any]  # the whole configuration, defaults filled in
    versions: dict[str, str]  # of Python and the packages that numbers depend on
    seconds: float  # of meta-testing
    adapt_seconds: float | None = None  # of adapting to the K samples of one listener, mean over episodes
    listener_numbers: Count | None = None  # numbers that adaptation changes or adds: what is kept of a listener
    peak_memory_bytes: Count  # of the process
    file: Path | None = field(default=None, init=False, compare=False)
    known: dict[str, Influences] | None = field(default=None, init=False, compare=False)  # of each rater, as computed

    @classmethod
    def of(
        cls,
        *,
        cell: EvaluatedCell,
        label_set: LabelSet,
        raters: Raters,
        asked: Sequence[EpisodeList],
        tested: Sequence[EpisodeResult],
        hashes: Mapping[str, str],
        options: Mapping[str, Any],
        threshold: float | None = None,
        **others: Any,
    ) -> Result:
        """A new result, with its metrics and intervals.

        Args:
            asked: the episode list of each tested rater, with K and Q as asked for.
            tested: the predictions on each of their episodes, in this order.
            threshold: above which a class is given, where one was learned.
            hashes: all but those of the episode lists and of the code.
        """
        smoothing = _option(options, "datarc", "smoothing") or 0.0
        drawn = [(each.rater, episode) for each in asked for episode in each.episodes]
        found = cls(
            schema=SCHEMA,
            cell=cell,
            classes=label_set.classes,
            label_set=label_set,
            raters=raters,
            counts=Counts(
                shots_requested=asked[0].shots,
                shots_used=len(asked[0].episodes[0].support),
                queries_requested=asked[0].queries,
                queries_used=min(each.queries_used for each in asked),
                episodes=len(tested),
            ),
            metrics={},
            episodes=tuple(
                Episode(
                    seed=result.seed,
                    rater=rater if len(asked) > 1 else None,
                    support=episode.support,
                    query=result.query,
                    probabilities=_rows(result.probabilities),
                    ticks=_rows(result.ticks),
                    loss=result.loss,
                    clusters=result.clusters,
                    metrics=episode_scores(result.probabilities, result.ticks, label_set, smoothing, threshold),
                )
                for (rater, episode), result in zip(drawn, tested, strict=True)
            ),
            adapt_seconds=_mean([result.seconds for result in tested]),
            listener_numbers=max((result.numbers for result in tested if result.numbers is not None), default=None),
            options=dict(options),
            threshold=threshold,
            hashes=Hashes(**{**hashes, "episodes": key_of(asked), "code": code_that_ran()}),
            versions=versions(),
            peak_memory_bytes=peak_memory(),
            **others,
        )
        return found.changed(metrics=intervals(found.scored))

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a result file.

        Raises:
            UserError: not a result file, of another schema, or naming the first key that is missing or whose value has
                another type or shape.
        """
        result, faults = read_with_faults(path)
        if result is None:
            hint = f"Run `metaperser validate --all {path.parent}` for details, then evaluate again."
            raise UserError(f"{path}: {faults[0].text} {hint}")
        return result

    def write(self, path: Path) -> None:
        """Write the result file, whole or not at all."""
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The file's content."""
        content = dataclasses.asdict(dataclasses.replace(self))
        del content["file"], content["known"]
        content["label_set"] = self.label_set and self.label_set.as_dict()
        content["metrics"] = {name: span.as_json() for name, span in self.metrics.items()}
        _leave_out(content, "label_set selected controls adapt_seconds listener_numbers diverged curves threshold")
        _leave_out(content["hashes"], "parameters audio start")
        if not self.doubts:
            del content["doubts"]
        for episode in content["episodes"]:
            episode["ticks"] = plain_counts(episode["ticks"])
            _leave_out(episode, "rater clusters")
        if self.trajectory is not None:
            content["trajectory"] = [_flattened(point) for point in content["trajectory"]]
        return content

    @property
    def key(self) -> Cell:
        """The number of a table that this is one fold of."""
        c = self.cell
        return Cell(c.corpus, c.upstream, c.scope, c.scenario, c.system, c.shots, c.protocol)

    def option(self, *names: str, default: Any = None) -> Any:
        """An option below ``downstream_expert``, such as ``option("evalrc", "steps")``, or ``default``."""
        value = _option(self.options, *names)
        return default if value is None else value

    @property
    def answers(self) -> LabelSet:
        """What raters may answer; version 3 of the file says its classes alone."""
        return self.label_set or set_of({"classes": self.classes})

    @property
    def scored(self) -> dict[str, Episodes]:
        """Rater -> episodes, for :mod:`.statistics`."""
        answers, smoothing = self.answers, self.option("datarc", "smoothing", default=0.0)
        found = {rater: Episodes() for rater in self.raters.tested}
        for e in self.episodes:
            p, counts = np.asarray(e.probabilities), np.asarray(e.ticks)
            own = Scored(e.query, p, counts, answers, smoothing, e.clusters, self.threshold)
            found[e.rater or self.raters.tested[0]].append(own)
        for rater, known in (self.known or {}).items():
            vars(found[rater])["influences"] = known
        return found

    def compact(self, kept: dict[Any, Any] | None = None) -> Result:
        """The same in a fraction of the memory, for thousands of results at once: predictions and answers are arrays of
        the smallest type that holds them exactly; who computes with them takes them as float64. Such a result is read
        from, not compared or written.

        Args:
            kept: lists of names, and answers, that other results have; equal ones are kept once.
        """
        once: dict[Any, Any] = {} if kept is None else kept

        def smaller(episode: Episode) -> Episode:
            ticks = _smallest(np.asarray(episode.ticks), np.uint8)
            changed: dict[str, Any] = {
                "probabilities": _smallest(np.asarray(episode.probabilities), np.float32),
                "ticks": once.setdefault((ticks.dtype.str, ticks.shape, ticks.tobytes()), ticks),
                "support": once.setdefault(episode.support, episode.support),
                "query": once.setdefault(episode.query, episode.query),
            }
            return dataclasses.replace(episode, **changed)

        def bits(of: Any) -> Any:
            found = tuple(_smallest(np.asarray(each, dtype=np.int64), np.int16) for each in of.predicted)
            return dataclasses.replace(of, predicted=found)

        parts: dict[str, Any] = {
            n: v and tuple(map(bits, v)) for n in ("trajectory", "controls") for v in [vars(self)[n]]
        }
        found, known = self.changed(episodes=tuple(map(smaller, self.episodes)), **parts), self.known or {}
        for rater, own in known.items():
            queries = tuple(once.setdefault(query, query) for query in own.queries)
            utterances = once.setdefault(own.utterances, own.utterances)
            known[rater] = dataclasses.replace(own, queries=queries, utterances=utterances)
        return found

    def changed(self, **fields: Any) -> Result:
        """The same with other fields, and still of its file, with what is known of its raters."""
        found = dataclasses.replace(self, **fields)
        vars(found).update(file=self.file, known=self.known)
        return found

    def _repr_html_(self) -> str:
        shown = ((METRICS.get(name), span) for name, span in self.metrics.items())
        rows = [(m.heading, m.shown(s.mean), f"{m.shown(s.low)} to {m.shown(s.high)}") for m, s in shown]
        cell = self.cell
        title = (
            f"{cell.system}, {cell.upstream} ({cell.scope}), {cell.corpus} {cell.scenario}/{cell.fold}, K={cell.shots}"
        )
        return html_table(title, rows, ("metric", "mean", "95 % interval"))

    def table(self, title: str) -> str:
        """The metrics with their 95 % intervals, and what perfect predictions reach where the answers keep it below
        the metric's bound."""
        wide = max([28, *(len(METRICS.get(name).heading) for name in self.metrics)])
        lines, caps = [title, f"{'metric':<{wide}} {'mean':>7}   95 % interval"], best_possible(self.scored)
        for name, span in self.metrics.items():
            metric = METRICS.get(name)
            if self.answers.kind in metric.further:
                continue
            notes = [f"perfect predictions reach {metric.shown(caps[name])}"] if name in caps else []
            notes += [f"undefined in {span.undefined} episodes"] if span.undefined else []
            shown = f"{metric.shown(span.low)} to {metric.shown(span.high)}"
            lines.append(f"{metric.heading:<{wide}} {metric.shown(span.mean):>7}   {'; '.join([shown, *notes])}")
        return "\n".join(lines)


def read_with_faults(path: Path) -> tuple[Result | None, list[validator.Fault]]:
    """A result file and everything that is missing or has another type or shape; no result where there is such a fault.

    Raises:
        UserError: not a result file, or of another schema.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a result file ({error}).") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema not in READABLE or isinstance(schema, bool):
        known = " and ".join(map(str, READABLE))
        raise UserError(f"{path} has result schema {schema!r}, this version reads {known}. Evaluate again.")
    if isinstance(points := content.get("trajectory"), list):
        content["trajectory"] = [_nested(point) for point in points]
    result, faults = validator.built(Result, content, strict=True, further=True)
    if result is None:
        return None, faults
    faults = [validator.Fault(keys, text) for keys, text in _shape_faults(result)]
    object.__setattr__(result, "file", path)
    return (None if faults else result), faults


def _leave_out(part: dict[str, Any], names: str) -> None:
    """Those of these keys that have no value."""
    for name in names.split():
        if part[name] is None:
            del part[name]


def _nested(point: Any) -> Any:
    """A point of the file with its metrics, which stand among its keys by name, in a mapping of their own."""
    if not isinstance(point, dict):
        return point
    own = {name: value for name, value in point.items() if name in _POINT}
    return {**own, "metrics": {n: v for n, v in point.items() if n not in own and isinstance(v, list)}}


def _flattened(point: dict[str, Any]) -> dict[str, Any]:
    """The reverse of :func:`_nested`."""
    if point["diverged"] is not None:
        return {"steps": point["steps"], "diverged": point["diverged"]}
    return {"steps": point["steps"], **point["metrics"], **{name: point[name] for name in _POINT[2:]}}


_POINT = ("steps", "diverged", "loss", "support_loss", "predicted")


def _shape_faults(result: Result) -> Iterator[tuple[tuple[Any, ...], str]]:
    if not result.episodes:
        yield ("episodes",), "episodes is empty: nothing was tested."
    if result.label_set is not None and result.label_set.classes != result.classes:
        yield ("label_set", "classes"), "label_set.classes differ from classes."
    for index, episode in enumerate(result.episodes):
        queries, classes = len(episode.query), len(result.classes)
        if episode.clusters is not None and len(episode.clusters) != queries:
            yield ("episodes", index, "clusters"), f"episodes[{index}].clusters does not have {queries} names."
        for key, rows in (("probabilities", episode.probabilities), ("ticks", episode.ticks)):
            if len(rows) != queries or not rows or any(len(row) != classes for row in rows):
                text = f"episodes[{index}].{key} does not have the shape [{queries}, {classes}]."
                yield ("episodes", index, key), text


def _rows(array: np.ndarray) -> Rows:
    return tuple(map(tuple, np.asarray(array, dtype=np.float64).tolist()))


def _smallest(array: np.ndarray, kind: type) -> np.ndarray:
    """The array as ``kind``, where that loses nothing."""
    if array.dtype == kind:
        return array
    found: np.ndarray = array.astype(kind)
    return found if (found == array).all() else array


def _option(options: Mapping[str, Any], *names: str) -> Any:
    value: Any = options.get("downstream_expert")
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
