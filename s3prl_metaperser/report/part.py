"""Everything that a report says of one corpus and scope, made once and when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from s3prl_metaperser.evaluation.compare import Comparison
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.report.controls_table import compared_controls, controls_table
from s3prl_metaperser.report.cost_table import cost_table
from s3prl_metaperser.report.detail_tables import Question, calibration_table, checks_table, comparison_table, questions
from s3prl_metaperser.report.drawing import Drawing, colours
from s3prl_metaperser.report.figures import figures, k_curves
from s3prl_metaperser.report.further_tables import further_table, levels_table
from s3prl_metaperser.report.gathered import Study
from s3prl_metaperser.report.rater_tables import each_rater, many, rater_table
from s3prl_metaperser.report.result_tables import result_tables
from s3prl_metaperser.report.scores_table import scores_table
from s3prl_metaperser.report.tables import Table
from s3prl_metaperser.report.training_table import training_table
from s3prl_metaperser.report.trajectories import Curve, curves, trajectory_figures, trajectory_table


class Part:
    """Everything about one corpus and scope, made when a section asks for it."""

    def __init__(self, study: Study, traits: Mapping[str, Mapping[str, str]] | None = None):
        self.study, self.traits = study, traits

    @cached_property
    def results(self) -> list[Table]:
        """The tables of results."""
        return result_tables(self.study)

    @cached_property
    def scores(self) -> Table:
        """The one table of the page."""
        return scores_table(self.study)

    @cached_property
    def questions(self) -> list[Question]:
        """The families of comparisons."""
        return questions(self.study)

    @cached_property
    def controls(self) -> list[tuple[Cell, str, Comparison]]:
        """(cell, control, what is lost with it), where results have controls."""
        return compared_controls(self.study)

    @cached_property
    def curves(self) -> list[Curve]:
        """Numbers over adaptation steps, where results have them."""
        return curves(self.study)

    @cached_property
    def colours(self) -> dict[str, str]:
        """System -> its colour in every figure."""
        return colours(
            list(dict.fromkeys([*self.study.systems, self.study.method, *(cell.system for cell in self.study.cells)]))
        )

    @cached_property
    def details(self) -> list[Table]:
        """Each rater, calibration, comparisons, and numbers over adaptation steps."""
        study = self.study
        compared = [comparison_table(question, study) for question in self.questions]
        over_steps = [trajectory_table(self.curves, study)] if self.curves else []
        training = [table] if (table := training_table(study)) else []
        costs = [table] if (table := cost_table(study)) else []
        controls = [table] if (table := controls_table(study, self.controls)) else []
        further = filter(None, (further_table(study), levels_table(study, self.traits)))
        return [
            rater_table(study),
            calibration_table(study),
            *further,
            *compared,
            *controls,
            *costs,
            *training,
            *over_steps,
        ]

    @cached_property
    def checks(self) -> list[Table]:
        """The comparisons by other tests."""
        return [table for question in self.questions if (table := checks_table(question, self.study))]

    @cached_property
    def files(self) -> list[Table]:
        """Tables that are too long for the page, for CSV alone."""
        return [each_rater(self.study)] if many(self.study) else []

    @cached_property
    def drawings(self) -> list[Drawing]:
        """The figures."""
        over_steps = trajectory_figures(self.curves, self.study) if self.curves else []
        return [*k_curves(self.study), *over_steps, *figures(self.study)]
