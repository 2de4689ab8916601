"""The second task's expert in s3prl's sense: batches of several corpora, a linear head, Deep-All's loss.

s3prl's own launcher makes it, and its runner then hands over to :func:`.runner.run_task`; whoever writes a loop around
s3prl's upstreams finds here what that loop needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from s3prl_metaperser.config.domain_options import DomainOptions
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.run.domain_data import Domains
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_plugin.expert_base import Expert, configuration
from s3prl_metaperser.tasks.domain_generalized_emotion import NAME

#: Waveforms [n] at 16 kHz; classes, int64 [B]; sources, int64 [B].
Batch = tuple[list[np.ndarray], Tensor, Tensor]


class DownstreamExpert(Expert):
    """Domain generalisation as an s3prl downstream.

    Args:
        upstream_dim: D, size of the upstream's features.
        upstream_rate: samples in one frame of the upstream.
        downstream_expert: the configuration's field of that name.
        expdir: the experiment folder.
        open_workspace: how the corpus is come by.
        kwargs: all other fields of the configuration and all of the launcher's arguments, as s3prl passes them.
    """

    def __init__(
        self,
        upstream_dim: int,
        upstream_rate: int,
        downstream_expert: dict,
        expdir: str,
        open_workspace: Callable[..., Workspace] = Workspace,
        **kwargs,
    ):
        options = DomainOptions.from_config(configuration(downstream_expert, kwargs))
        domains = Domains(options, int(kwargs.get("seed", 1337)), open_workspace)
        domains.refuse()
        hidden, classes = options.downstream_expert.modelrc.projector_dim, domains.corpus.classes
        super().__init__(upstream_dim, hidden, classes, expdir, domains.seed("weights"))
        self.domains, self.upstream_rate = domains, upstream_rate

    def get_downstream_name(self) -> str:
        """Such as ``domain_generalized_emotion_scn4_trial1``."""
        split = self.domains.split.as_split()
        return f"{NAME}_{split.scenario}_{split.fold}"

    def get_dataloader(self, split: str, epoch: int = 0) -> DataLoader:
        """Batches, each a :data:`Batch`, whose first field is s3prl's list of waveforms.

        Args:
            split: ``train``: the sources, one batch a step, as ``datarc.batches`` says. ``dev``: the sources' speakers
                who choose, where there are some. ``test``: the target, whole.
            epoch: of ``train``.
        """
        domains = self.domains
        if split == "train":
            steps = domains.sampler.steps_per_epoch
            batches = [domains.sampler.at(epoch * steps + step + 1) for step in range(steps)]
            return _loader([self._batch(rows, domains.of_row[1, rows]) for rows in batches])
        role = {"dev": "validation", "test": "test"}.get(split)
        if role is None:
            raise unknown_name("split", split, ["train", "dev", "test"])
        places = {name: place for place, name in enumerate(domains.split.train)}
        ids = [(u, places.get(name, -1)) for name, mine in domains.ids(role).items() for u in mine]
        if not ids:
            raise UserError(
                "No speaker of the sources is held out. Set generalrc.selection to source_validation, or use test."
            )
        size = domains.expert.datarc.batch_size
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        return _loader([self._batch([domains.rows[u] for u, _ in part], [at for _, at in part]) for part in parts])

    def _batch(self, rows: Sequence[int] | np.ndarray, sources: Sequence[int] | np.ndarray) -> Callable[[], Batch]:
        utterances = [self.domains.workspace.utterances[int(row)] for row in rows]
        labels = torch.tensor([self.domains.labels[each.id] for each in utterances])
        return lambda: ([load_audio(each.path) for each in utterances], labels, torch.as_tensor(np.asarray(sources)))

    def forward(
        self, split: str, features: list[Tensor], labels: Tensor, sources: Tensor, *, records: dict, **kwargs
    ) -> Tensor:
        """The mean over corpora of each one's mean cross-entropy (Gandhi et al., Eq. 1), from frames.

        Args:
            features: the featurizer's weighted sums, each [T, D], in the order of the batch's waveforms.
            labels: classes, int64 [B].
            sources: which corpus each is of, int64 [B].
            records: gains ``loss`` and ``acc``.
        """
        logits = self.logits(features)
        labels, sources = labels.to(logits.device), sources.to(logits.device)
        losses = cross_entropy(logits, labels, reduction="none")
        loss = torch.stack([losses[sources == each].mean() for each in torch.unique(sources)]).mean()
        records["loss"].append(loss.item())
        records["acc"] += (logits.argmax(-1) == labels).float().tolist()
        return loss


class _Batches(Dataset):
    def __init__(self, batches: Sequence[Callable[[], Batch]]):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> Batch:
        return self.batches[place]()


def _loader(batches: Sequence[Callable[[], Batch]]) -> DataLoader:
    return DataLoader(_Batches(batches), batch_size=None, collate_fn=lambda batch: batch)
