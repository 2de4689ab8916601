"""Criteria of selection on the validation rater (``metarc.criterion``), in words that every table has.

Reports read them: nothing here imports torch.
"""

from __future__ import annotations

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.metrics import metric_of_decisions

LOSS = "class-balanced loss"


def said(criterion: str, label_set: LabelSet) -> str:
    """What is lowest, or best, in meta-testing the validation rater.

    Args:
        criterion: ``loss``, ``metric`` or ``both``.

    >>> said("both", LabelSet("two", "multi", ("happy", "sad")))
    'class-balanced loss and macro-F1 together in meta-testing the validation rater'
    """
    metric = metric_of_decisions(label_set).title
    what = {"loss": LOSS, "metric": metric, "both": f"{LOSS} and {metric} together"}[criterion]
    return f"{what} in meta-testing the validation rater"
