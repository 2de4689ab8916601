"""How far a clip's features are from those of the speech that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

#: So many training clips in a hundred are nearer than what counts as unlike them.
NEARER = 99
_AT_ONCE = 512


@dataclass(frozen=True)
class Heard:
    """The features of the training split's N clips, as the head sees them.

    Attributes:
        mean, scale: mean and standard deviation of each feature, float32 [L, D].
        far: the distance that :data:`NEARER` in a hundred of these clips are within, float32 [].
    """

    mean: torch.Tensor
    scale: torch.Tensor
    far: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor, rows: Sequence[int]) -> Heard:
        """Of some rows of features [N, L, D]."""
        count = len(rows)

        def parts() -> Iterator[torch.Tensor]:  # a crowd's features are too many for a copy
            return (values[list(rows[start : start + _AT_ONCE])].cpu() for start in range(0, count, _AT_ONCE))

        nothing = torch.zeros(values.shape[1:], dtype=torch.float64)
        mean = sum((part.double().sum(0) for part in parts()), nothing) / count
        scale = (sum((((part - mean) ** 2).sum(0) for part in parts()), nothing) / count).sqrt()
        scale[scale < 1e-8] = 1.0
        found = cls(mean.float(), scale.float(), torch.zeros(()))
        far = torch.cat([found.distances(part) for part in parts()]).quantile(NEARER / 100)
        return cls(found.mean, found.scale, far)

    def distances(self, items: torch.Tensor) -> torch.Tensor:
        """Root mean square of the z-scores of N clips [N, L, D], float32 [N]; about one for clips of the training."""
        return (((items.cpu().float() - self.mean) / self.scale) ** 2).mean((1, 2)).sqrt()

    def unlike(self, items: torch.Tensor) -> torch.Tensor:
        """Which of N clips [N, L, D] are farther from the mean than that, bool [N]."""
        return self.distances(items) > self.far

    def as_tensors(self) -> dict[str, torch.Tensor]:
        """By name, for files."""
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Heard | None:
        """The reverse; None where a file of an earlier version has nothing of it."""
        return cls(**tensors) if tensors else None
