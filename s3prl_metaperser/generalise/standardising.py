"""z-scores of pooled features, by the statistics of the sources, of each corpus or of each speaker.

The last two look at the target's recordings before it is tested, though not at its labels: they are transductive, and
results say so. Some layers of large upstreams hold dimensions that hardly vary within one corpus and do in another,
where z-scores would then reach tens of thousands: they are cut off at ``clamp``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s3prl_metaperser.errors import UserError, listed

#: Deviations below this share of their layer's median count as that: what hardly varies is nearly dead.
FLOOR = 1e-3
#: A speaker's own statistics need so many emotions, or they would take away what is to be recognised.
FEWEST_EMOTIONS = 3
#: Larger z-scores of the target are said.
LARGE = 30.0


@dataclass(frozen=True)
class Standardized:
    """Features as z-scores.

    Attributes:
        values: float32 [N, L, D].
        mean, scale: of the sources, [L, D], where all rows share them; else None.
        largest: the largest absolute z-score of the target before it was cut off.
    """

    values: Tensor
    mean: Tensor | None
    scale: Tensor | None
    largest: float


def standardized(
    values: Tensor,
    groups: Mapping[str, Sequence[int]],
    fitted: Mapping[str, Sequence[int]],
    clamp: float,
    tested: Sequence[int],
) -> Standardized:
    """z-scores, each group's by its own statistics.

    Args:
        values: float32 [N, L, D].
        groups: name -> the rows that share statistics; every row that is used is in one.
        fitted: name -> the rows that the statistics are of.
        clamp: z-scores are cut off there; 0: nowhere.
        tested: the target's rows.
    """
    found = torch.zeros_like(values)
    mean = scale = None
    for name, rows in groups.items():
        mean, scale = _statistics(values[np.asarray(fitted[name])])
        chosen = torch.as_tensor(np.asarray(rows))
        found[chosen] = ((values[chosen].double() - mean) / scale).float()
    largest = found[torch.as_tensor(np.asarray(tested))].abs().max().item()
    alone = len(groups) == 1
    return Standardized(
        found.clamp(-clamp, clamp) if clamp else found,
        mean.float() if alone and mean is not None else None,
        scale.float() if alone and scale is not None else None,
        largest,
    )


def _statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and floored standard deviation over rows, float64 [L, D] each."""
    whole = values.double()
    scale = whole.std(dim=0, unbiased=False)
    least = FLOOR * scale.median(dim=-1, keepdim=True).values
    scale = torch.maximum(scale, least)
    return whole.mean(dim=0), torch.where(scale < 1e-8, 1.0, scale)


def refuse_few_emotions(emotions: Mapping[str, set[str]]) -> None:
    """Refuse statistics of each speaker where one has too few emotions.

    Args:
        emotions: speaker -> those of its utterances.

    Raises:
        UserError: naming the speakers.
    """
    few = sorted(speaker for speaker, found in emotions.items() if len(found) < FEWEST_EMOTIONS)
    if few:
        raise UserError(
            f"modelrc.statistics: speaker needs at least {FEWEST_EMOTIONS} emotions of each speaker, or it takes away "
            f"what is to be recognised; {len(few)} of {len(emotions)} have fewer ({listed(few, 5)}). Set it to corpus "
            "or source."
        )
