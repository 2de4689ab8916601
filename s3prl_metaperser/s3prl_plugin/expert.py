"""The downstream expert in s3prl's sense: the episodic data loaders, the head, the loss, and what is logged."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.utils.data import DataLoader

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.protocol.episodes import EpisodeList
from s3prl_metaperser.protocol.loader import (
    EpisodeBatch,
    FrozenEpisodeDataset,
    LabelTable,
    episodic_loader,
    steps_per_epoch,
    training_loader,
)
from s3prl_metaperser.protocol.loss import soft_cross_entropy, weighted_targets
from s3prl_metaperser.run.testing import ROLES
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_plugin.expert_base import Expert, configuration
from s3prl_metaperser.s3prl_plugin.registration import DOWNSTREAM


class DownstreamExpert(Expert):
    """Listener-personalised emotion recognition as an s3prl downstream.

    Args:
        upstream_dim: D, size of the upstream's features.
        upstream_rate: samples in one frame of the upstream.
        downstream_expert: the configuration's field of that name.
        expdir: the experiment folder.
        workspace: corpus and split; read from the options by default.
        kwargs: all other fields of the configuration and all of the launcher's arguments, as s3prl passes them.
    """

    def __init__(
        self,
        upstream_dim: int,
        upstream_rate: int,
        downstream_expert: dict,
        expdir: str,
        workspace: Workspace | None = None,
        **kwargs,
    ):
        options = Options.from_config(configuration(downstream_expert, kwargs))
        if (pooling := options.downstream_expert.modelrc.pooling) != "mean":
            raise UserError(
                f"modelrc.pooling: {pooling} needs each layer's frames, and s3prl hands over their weighted sum. Leave "
                "it at mean here; run_downstream.py of this project, metaperser run and Python take it."
            )
        workspace = workspace or Workspace(options)
        seed = workspace.training_seed(int(kwargs.get("seed", 1337)))
        hidden, classes = options.downstream_expert.modelrc.projector_dim, workspace.corpus.classes
        super().__init__(upstream_dim, hidden, classes, expdir, seed)
        self.options, self.workspace, self.seed = options, workspace, seed
        self.upstream_rate = upstream_rate
        self.rows = {u.id: row for row, u in enumerate(workspace.utterances)}
        self.class_weights: torch.Tensor
        self.register_buffer("class_weights", torch.from_numpy(workspace.class_weights()).float(), persistent=False)

    def get_downstream_name(self) -> str:
        """s3prl's name for this run, e.g. ``personalized_emotion_seen_fold1``."""
        split = self.workspace.split
        return f"{DOWNSTREAM}_{split.scenario}_{split.fold}"

    @property
    def steps_per_epoch(self) -> int:
        """Outer steps in one epoch of the training loader."""
        metarc = self.options.downstream_expert.metarc
        return steps_per_epoch(self._train_labels, metarc.shots, metarc.raters_per_step)

    @functools.cached_property
    def _train_labels(self) -> dict[str, LabelTable]:
        labels = self.workspace.labels_by_rater("train", self.rows)
        return {rater: labels[rater] for rater in self.workspace.meta_trainers}

    def get_dataloader(self, split: str, epoch: int = 0, skip: int = 0) -> DataLoader:
        """Batches of episodes, each an :class:`EpisodeBatch`, whose first field is s3prl's list of waveforms.

        Args:
            split: ``train``: one batch an outer step, with one episode for each training rater. ``dev`` and ``test``:
                one batch an episode of the validation or test rater.
            epoch: of ``train``; each has :attr:`steps_per_epoch` outer steps.
            skip: leave out this many outer steps of the epoch, to resume in its middle.
        """
        data = self.options.downstream_expert.datarc
        if split == "train":
            return training_loader(
                self._train_labels,
                self.options.downstream_expert.metarc,
                seed=self.seed,
                epoch=epoch,
                skip=skip,
                num_workers=data.num_workers,
                audio=self._audio,
            )
        if split not in ROLES:
            raise unknown_name("split", split, ["train", *ROLES])
        role = ROLES[split]
        dataset = FrozenEpisodeDataset(
            self.workspace.episodes(role), self.workspace.labels_by_rater(role, self.rows), audio=self._audio
        )
        return episodic_loader(dataset, data.num_workers)

    def episodes(self, split: str) -> tuple[EpisodeList, ...]:
        """The frozen episode list of each rater of ``dev`` or ``test``."""
        return self.workspace.episodes(ROLES[split])

    def _audio(self, utterance: str) -> np.ndarray:
        return load_audio(self.workspace.corpus.utterance(utterance).path)

    def forward(self, split: str, features: list[torch.Tensor], *others, records: dict, **kwargs) -> torch.Tensor:
        """The class-balanced loss of the episodes' samples under the unadapted head, from frames.

        Args:
            features: the featurizer's weighted sums, each [T, D], in the order of the batch's waveforms.
            others: the remaining fields of :class:`EpisodeBatch`.
            records: gains ``loss``.
        """
        batch = EpisodeBatch([], *others)
        targets = [batch.support_targets]
        if batch.query_targets is not batch.support_targets:
            targets.append(batch.query_targets)
        flat = torch.cat([t.flatten(0, -2) for t in targets]).to(features[0].device)
        flat = flat[flat.sum(-1) > 0]
        flat = flat / flat.sum(-1, keepdim=True)
        loss = soft_cross_entropy(self.logits(features), weighted_targets(flat, self.class_weights))
        records["loss"].append(loss.item())
        return loss
