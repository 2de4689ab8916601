"""A cell of domain generalisation with its data: sources and target, features, network, system."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from s3prl_metaperser.config.domain_options import TRANSDUCTIVE, DomainExpert, DomainOptions
from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.corpora.base import label_hashes
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise import GENERALISERS
from s3prl_metaperser.generalise.augment import Augmentation
from s3prl_metaperser.generalise.base import Generaliser, Sources
from s3prl_metaperser.generalise.model import DomainModel, FineTuned, PooledModel
from s3prl_metaperser.generalise.resnet18 import ResNet18, as_images
from s3prl_metaperser.generalise.standardising import LARGE, Standardized, refuse_few_emotions, standardized
from s3prl_metaperser.protocol.domain_batches import DomainBatch
from s3prl_metaperser.run.domain_data import Domains
from s3prl_metaperser.run.domain_examples import Examples, FrameExamples, PooledExamples, WaveExamples
from s3prl_metaperser.run.experiment import Experiment
from s3prl_metaperser.run.pretraining import load_weights
from s3prl_metaperser.run.scopes import identify, shape_of
from s3prl_metaperser.run.settings import CellOptions
from s3prl_metaperser.run.starting import refuse_heard_upstream
from s3prl_metaperser.run.workspace import Workspace, check_layer, say
from s3prl_metaperser.seeding import torch_generator
from s3prl_metaperser.storage.hashing import file_hash
from s3prl_metaperser.storage.paths import user_path
from s3prl_metaperser.storage.provenance import digest
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.hubconf import GIVEN
from s3prl_metaperser.upstream.inputs import Waveforms
from s3prl_metaperser.upstream.pooling import pooled_size

#: Share of their start that running statistics may hold at the end of training.
WARMED_UP = 0.1


class OpenDomains(Domains):
    """A cell of domain generalisation with its data at hand.

    Args:
        open_workspace: how corpus and features are come by; a process with many cells shares them.

    Attributes:
        split: who trains, chooses and is tested.
        rows: utterance id -> row of the features.
        standardized: how features were standardised, where they are.

    Raises:
        UserError: whatever of corpora, upstream, system or options is at fault.
    """

    def __init__(self, cell: CellOptions, open_workspace: Callable[..., Workspace] = Workspace):
        self.cell, self.started = cell, time.perf_counter()
        if not isinstance(cell.options, DomainOptions):
            raise TypeError("a cell of domain generalisation has its own options")
        self.kind = GENERALISERS.get(cell.system)
        self.options = self.kind.options_in_force(cell.options)
        if (threads := self.options.runner.threads) is not None:
            torch.set_num_threads(threads)
        self._refuse_what_does_not_fit(self.options.downstream_expert)
        self.identity, self._build = identify(cell, self.options)
        super().__init__(self.options, cell.seed, open_workspace)
        for line in self.described():
            say(line)
        self.refuse()
        refuse_heard_upstream(cell.upstream, self.workspace)
        self.standardized: Standardized | None = None
        self.examples, self.model = self._prepared()
        self.system: Generaliser = self.kind(self.options, self.sources).to(cell.device)
        self.system.prepare(self.model)

    # -- training ------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def sources(self) -> Sources:
        """What a system may know of the sources."""
        ids = self.ids("train")
        size = len(self.corpus.classes)
        counts = np.stack([np.bincount([self.labels[u] for u in ids[name]], minlength=size) for name in ids])
        return Sources(
            tuple(ids), self.corpus.classes, counts, self.seed("weights"), self.total_steps, len(self.training_speakers)
        )

    def batch(self, step: int) -> DomainBatch:
        """What an outer step learns from."""
        rows = self.sampler.at(step)
        labels, domains, speakers = torch.from_numpy(self.of_row[:, rows]).to(self.cell.device)
        return DomainBatch(self.examples.batch(rows, step), labels, domains, speakers)

    @property
    def total_steps(self) -> int:
        """Outer steps; those of ``runner.epochs`` where it is given."""
        if not (self.kind.facts is None or self.kind.facts.learns):
            return 0
        epochs = self.options.runner.epochs
        return self.options.runner.total_steps if epochs is None else epochs * self.sampler.steps_per_epoch

    # -- features and network ------------------------------------------------------------------------------------------

    def _refuse_what_does_not_fit(self, given: DomainExpert) -> None:
        network, finetuned = given.modelrc.network, self.cell.upstream.finetuned
        default = DomainOptions().downstream_expert
        vectors = self.cell.upstream.name in GIVEN
        frames = network == "resnet18" and not vectors
        if (finetuned or frames) and given.modelrc.statistics != default.modelrc.statistics:
            raise UserError("modelrc.statistics are those of stored features: leave it out with -f and with resnet18.")
        if frames and given.modelrc.pooling != default.modelrc.pooling:
            raise UserError("modelrc.pooling is for modelrc.network: pooled and mlp. Leave it out with resnet18.")
        if frames and finetuned:
            raise UserError("modelrc.network: resnet18 takes frames of a frozen upstream. Remove -f, or the option.")
        if not frames and given.augmentrc != default.augmentrc:
            raise UserError(
                "augmentrc changes recordings for modelrc.network: resnet18. Leave it out with another one, and with "
                "vectors."
            )
        if network != "resnet18" and given.modelrc.weights is not None:
            raise UserError("modelrc.weights are those of modelrc.network: resnet18. Leave it out with another one.")

    def _prepared(self) -> tuple[Examples, DomainModel]:
        if self.cell.upstream.finetuned:
            return self._finetuned()
        on_frames = self.expert.modelrc.network == "resnet18"
        if on_frames and self.cell.upstream.name not in GIVEN:
            return self._on_frames()
        features = self.workspace.features(self.identity, self._build)
        self.rows, values, layer = features.rows, features.values, self.cell.upstream.layer
        check_layer(layer, values.shape[1])
        values = values if layer is None else values[:, [layer]]
        if features.carry_nothing():
            say(f"WARNING: the pooled features of {self.cell.upstream.name} carry no information.")
        if self.expert.modelrc.statistics != "none":
            self.standardized = self._standardized(values)
            self._say_how(self.standardized)
            values = self.standardized.values
        if on_frames:
            return PooledExamples(as_images(values).to(self.cell.device)), self._resnet18(values.shape[1])
        head = self._head(values.shape[1], values.shape[2])
        return PooledExamples(values.to(self.cell.device)), head.to(self.cell.device)

    def _head(self, layers: int, size: int) -> PooledModel:
        model = self.expert.modelrc
        generator = torch_generator("head", self.seed("weights"))
        shape, classes = (layers, size), len(self.corpus.classes)
        return PooledModel(shape, model.projector_dim, classes, generator, nonlinear=model.network == "mlp")

    def _standardized(self, values: torch.Tensor) -> Standardized:
        """By the statistics that the options name; systems and seeds that learn from the same rows share it."""
        statistics, clamp = self.expert.modelrc.statistics, self.expert.modelrc.clamp
        by_id = {utterance.id: utterance for utterance in self.corpus.utterances}
        used = {row: by_id[utterance] for utterance, row in self.rows.items()}
        train = [self.rows[u] for ids in self.ids("train").values() for u in ids]
        tested = [self.rows[u] for u in self.ids("test")[self.split.domains.target]]
        if statistics == "source":
            groups = {"": sorted(used)}
            fitted = {"": sorted(train)}
        else:
            of = (lambda u: u.session) if statistics == "corpus" else (lambda u: u.speaker)
            groups = {}
            for row, utterance in sorted(used.items()):
                groups.setdefault(of(utterance), []).append(row)
            if statistics == "speaker":
                emotions: dict[str, set[str]] = {}
                for rating in self.corpus.ratings:
                    if rating.utterance in self.rows:
                        emotions.setdefault(by_id[rating.utterance].speaker, set()).update(rating.ticks)
                refuse_few_emotions(emotions)
            fitted = groups
        audio = digest(self.workspace.audio_hashes)
        key = (self.identity, self.cell.upstream.layer, audio, clamp, digest([groups, fitted, tested]))
        return self.workspace.shared(key, lambda: standardized(values, groups, fitted, clamp, tested))

    def _say_how(self, found: Standardized) -> None:
        statistics, target = self.expert.modelrc.statistics, self.split.domains.target
        whose = "all sources" if statistics == "source" else f"each {statistics}"
        how = f"features are standardised by the statistics of {whose}"
        say(f"{how}{' (transductive: the target is seen, unlabelled)' if statistics in TRANSDUCTIVE else ''}")
        if found.largest > LARGE:
            cut = f"; cut off at {self.expert.modelrc.clamp:g} (modelrc.clamp)" if self.expert.modelrc.clamp else ""
            say(
                f"WARNING: z-scores of {target} reach {found.largest:,.0f}{cut}: its features are far from the sources'"
            )

    def _finetuned(self) -> tuple[Examples, DomainModel]:
        tunerc, given, device = self.expert.tunerc, self.cell.upstream, self.cell.device
        waves = Waveforms(self.workspace.utterances, tunerc.longest_seconds, (1, 1), device)
        upstream = self._build()
        layers, size = shape_of(upstream, self.identity.selection, device)
        check_layer(given.layer, layers)
        identity = self.identity
        size = pooled_size(size, identity.pooling)
        head: nn.Module = self._head(layers if given.layer is None else 1, size).to(device)
        how = (identity.selection, given.layer, identity.normalize, identity.pooling)
        model = FineTunedModel(upstream, head, tunerc, *how)
        return WaveExamples(waves), FineTuned(model)

    def _on_frames(self) -> tuple[Examples, DomainModel]:
        given, device, augment = self.cell.upstream, self.cell.device, self.expert.augmentrc
        utterances, upstream = self.workspace.utterances, self._build()
        layers, _ = shape_of(upstream, self.identity.selection, device)
        check_layer(given.layer, layers)
        how = Augmentation(round(augment.crop_seconds * RATE), augment.stretch, augment.shift, augment.probability)
        examples = FrameExamples(
            utterances, upstream, self.identity.selection, given.layer, how, self.seed("augmentation"), device
        )
        return examples, self._resnet18(layers if given.layer is None else 1)

    def _resnet18(self, layers: int) -> ResNet18:
        model = self.expert.modelrc
        network = ResNet18(
            layers,
            len(self.corpus.classes),
            torch_generator("resnet18", self.seed("weights")),
            channels=model.channels,
            bn_momentum=model.bn_momentum,
            frozen_norm=model.frozen_norm,
        )
        if model.weights is not None:
            say(load_weights(network, user_path(model.weights)))
        elif self.total_steps:
            say("ResNet18 starts from random weights (modelrc.weights: a file of `metaperser pretrain`)")
            if (left := (1 - model.bn_momentum) ** self.total_steps) > WARMED_UP and not model.frozen_norm:
                say(
                    f"WARNING: after {self.total_steps} steps its running statistics still hold {left:.0%} of their "
                    "start, and tests go by them. Raise modelrc.bn_momentum or the number of steps."
                )
        return network.to(self.cell.device)

    # -- records -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def made_from(self) -> dict[str, Any]:
        """What a checkpoint depends on: nothing of the target, unless its statistics are used."""
        workspace, split = self.workspace, self.split.as_split()
        learned = {rating.utterance for rating in (*split.train, *split.validation)}
        seen = {u.id for u in workspace.utterances} if self.transductive else learned
        return {
            "classes": list(self.corpus.classes),
            "upstream": self.identity.described(),
            "statistics": self.expert.modelrc.statistics,
            **self._weights,
            "split": {"scenario": split.scenario, "trial": self.split.trial, "sources": list(self.split.train)},
            "audio": {u: value[:16] for u, value in workspace.audio_hashes.items() if u in seen},
            "labels": label_hashes((*split.train, *split.validation)),
        }

    @property
    def _weights(self) -> dict[str, str]:
        """The file that the network starts from, where there is one."""
        given = self.expert.modelrc.weights
        return {} if given is None else {"weights": file_hash(user_path(given))}

    @property
    def transductive(self) -> bool:
        """Whether the target's recordings are seen before it is tested."""
        return self.expert.modelrc.statistics in TRANSDUCTIVE

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The experiment folder."""
        by = self.standardized
        constants = {
            "Args": self.cell.as_arguments(),
            "Config": self.options.as_config(),
            "System": self.cell.system,
            "Task": digest(self.made_from),
            "MadeFrom": self.made_from,
            "Sources": list(self.sources.names),
            "Classes": list(self.corpus.classes),
            "Preprocessing": {} if by is None or by.mean is None else {"mean": by.mean, "scale": by.scale},
        }
        return Experiment(self.cell.folder, f"{self.cell.task}_{self.split.scenario}_{self.split.fold}", constants)
