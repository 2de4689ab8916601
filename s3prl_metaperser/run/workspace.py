"""From options to the data that systems work on: corpus, split, features, training task, episodes.

Everything that can be recomputed is kept in the cache folder: the demo corpus, feature stores, episode lists,
initialisations.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from s3prl_metaperser.config.options import DataOptions, Options
from s3prl_metaperser.config.section import numbers_of, with_values
from s3prl_metaperser.corpora import Corpus, labels_without_audio, open_corpus, reader_options, root_of
from s3prl_metaperser.corpora.alike import Answers
from s3prl_metaperser.corpora.base import label_hashes
from s3prl_metaperser.corpora.contents import Contents
from s3prl_metaperser.errors import UserError, printable
from s3prl_metaperser.protocol.doubts import doubtful_raters
from s3prl_metaperser.protocol.episodes import EpisodeList, frozen_fold, make_episodes
from s3prl_metaperser.protocol.pools import FEWEST_QUERIES, first_in_order
from s3prl_metaperser.protocol.recordings import equal_recordings, refuse_equal_recordings
from s3prl_metaperser.protocol.splits import Split, in_role, make_split, said_of
from s3prl_metaperser.seeding import seed_from
from s3prl_metaperser.storage.paths import cache_root
from s3prl_metaperser.storage.provenance import digest
from s3prl_metaperser.upstream.hubconf import GIVEN

if TYPE_CHECKING:
    import torch

    from s3prl_metaperser.methods.base import EpisodeData, TrainingTask
    from s3prl_metaperser.methods.start import Start
    from s3prl_metaperser.protocol.loader import LabelTable
    from s3prl_metaperser.upstream.finetuning import FineTunedModel
    from s3prl_metaperser.upstream.inputs import Waveforms
    from s3prl_metaperser.upstream.store import FeatureIdentity, PooledFeatures

T = TypeVar("T")
#: Utterances in one forward pass where ``modelrc.batch_size`` leaves it open; on a CPU one is fastest.
GPU_BATCH = 16
#: So many notes on the corpus are said before training.
MOST_NOTES = 5


@dataclass(frozen=True)
class Prepared:
    """Features as the head sees them.

    Attributes:
        values: float32 [N, L, D], layer-selected and, where asked for, standardised.
        mean: what was subtracted, [L, D]; zeros where nothing was.
        scale: what was divided by, [L, D]; ones where nothing was.
        standardized: whether statistics of the training split were applied.

    With a fine-tuned upstream ``values`` are the corpus's waveforms, without standardisation.
    """

    values: torch.Tensor | Waveforms
    rows: dict[str, int]
    mean: torch.Tensor
    scale: torch.Tensor
    standardized: bool


def split_by_rater(corpus: Corpus, data: DataOptions) -> Split:
    """The scenario and fold that the options name."""
    return make_split(
        corpus,
        scenario=data.scenario,
        fold=data.fold,
        test_raters=data.test_raters,
        exclude_raters=data.exclude_raters,
        test_sessions=data.test_sessions,
        validation_session=data.validation_session,
        equal_raters=data.equal_raters,
        pools=data.pools,
    )


def foresee(options: Options) -> None:
    """Check what is known without the corpus's folder, before an upstream is downloaded or the folder's audio made.

    Raises:
        UserError: no such folder; the split cannot be made, or a rater has too few ratings for K.
    """
    data = options.downstream_expert.datarc
    root = root_of(data)
    if root is not None and root.exists():
        return
    corpus = labels_without_audio(data.corpus, reader_options(data))
    if corpus is None:
        open_corpus(data)  # says what is missing
    else:
        Workspace(options, corpus).check_shots()


class Workspace:
    """One corpus, scenario and fold.

    Args:
        options: the whole configuration; the attribute ``options`` also names the sessions that the corpus suggests.
        corpus: as read; by default the one that the options name.
    """

    def __init__(
        self,
        options: Options,
        corpus: Corpus | None = None,
        splits: Callable[[Corpus, DataOptions], Split] = split_by_rater,
    ):
        expert, known = options.downstream_expert, dict[str, Any]()
        data = expert.datarc
        self.cache = cache_root(data.cache_dir)
        self.corpus = open_corpus(data) if corpus is None else corpus
        if data.test_sessions is None and (suggested := self.corpus.suggested.test_sessions):
            known["test_sessions"] = suggested
        if data.pools.test is not None and data.pools.minimum is None:
            known["pools.minimum"] = expert.evalrc.shots + FEWEST_QUERIES
        data = with_values(data, known)
        self.options = with_values(options, {"downstream_expert.datarc": data})
        self.split = splits(self.corpus, data)
        wanted, there = expert.metarc.raters, len(self.split.train_raters)
        if wanted is not None and wanted > there:
            raise UserError(f"metarc.raters: {wanted} raters cannot meta-train, since {there} train. Lower it.")

    def training_seed(self, seed: int) -> int:
        """The seed of this fold's training: folds that shared one would all err in the same direction."""
        return seed_from("training", seed, self.split.scenario, self.split.fold)

    @property
    def meta_trainers(self) -> tuple[str, ...]:
        """The training raters of whom outer steps draw: all, or the first ``metarc.raters`` in the order of pools."""
        raters, wanted = self.split.train_raters, self.options.downstream_expert.metarc.raters
        seed = self.options.downstream_expert.datarc.pools.seed
        return raters if wanted is None else first_in_order(raters, wanted, corpus=self.corpus.name, seed=seed)

    @functools.cached_property
    def utterances(self) -> list:
        """Utterances that somebody in this split rated, by id."""
        rated = {r.utterance for part in (self.split.train, self.split.validation, self.split.test) for r in part}
        return [u for u in self.corpus.utterances if u.id in rated]

    @functools.cached_property
    def audio_hashes(self) -> dict[str, str]:
        """Utterance id -> SHA-256 of its audio file."""
        return {u.id: self.contents.files[u.id] for u in self.utterances}

    @functools.cached_property
    def contents(self) -> Contents:
        """What all of the corpus's audio files hold."""
        return Contents(self.corpus, self.cache)

    def shared(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make()`` gives; a process with many cells keeps that of the last key."""
        return make()

    def refuse_leaks(self) -> None:
        """Refuse a split through which the content of an audio file leaks under another name.

        Raises:
            UserError: naming the files and the option that drops or allows them.
        """
        data = self.options.downstream_expert.datarc
        if data.equal_audio == "error":
            refuse_equal_recordings(self.corpus, self.split, self.contents.sounds)
        if data.equal_audio != "allow" and equal_recordings(self.contents.sounds, self.contents.sounds):
            same = {utterance: sound for utterance, sound in self.contents.sounds.items() if sound}
            answers = Answers.of(self.corpus.ratings, self.corpus.label_set, same)
            doubtful_raters(self.corpus, self.split.roles, answers, allow=data.equal_raters == "allow")

    def store(self, identity: FeatureIdentity):
        """The feature store of an upstream."""
        from s3prl_metaperser.upstream.store import PooledStore

        return PooledStore(self.cache / "features", identity)

    def features_exist(self, identity: FeatureIdentity) -> bool:
        """Whether the upstream is not needed at all."""
        if identity.upstream in GIVEN:
            return False
        return not self.store(identity).missing(self.utterances, self.audio_hashes)

    def features(self, identity: FeatureIdentity, upstream: Callable[[], torch.nn.Module] | None) -> PooledFeatures:
        """Pooled features of all utterances of the split; what is missing is made with ``upstream()``."""
        from s3prl_metaperser.upstream.embeddings import GivenVectors
        from s3prl_metaperser.upstream.pooling import device_of, pooler

        if identity.upstream in GIVEN:
            given = upstream() if upstream else None
            assert isinstance(given, GivenVectors)
            return given.features(self.utterances)
        store = self.store(identity)
        if store.missing(self.utterances, self.audio_hashes):
            assert upstream is not None, "features are missing and there is no upstream to make them"
            built, bf16 = upstream(), identity.precision == "bfloat16"
            batch = self.options.downstream_expert.modelrc.batch_size
            store.make(
                self.utterances,
                self.audio_hashes,
                pooler(
                    built,
                    selection=identity.selection,
                    normalize=identity.normalize,
                    bf16=bf16,
                    pooling=identity.pooling,
                ),
                batch_size=batch or (1 if device_of(built).type == "cpu" else GPU_BATCH),
            )
        return store.load(self.utterances, self.audio_hashes)

    def prepare(
        self, features: PooledFeatures, *, learned: bool, layer: int | None = None, start: Start | None = None
    ) -> Prepared:
        """Select a layer and standardise.

        Args:
            learned: whether the upstream has learned weights; ``modelrc.standardize: auto`` standardises where not.
            layer: s3prl's ``-l``.
            start: what is started from, whose statistics are taken.
        """
        import torch

        values = features.values
        check_layer(layer, values.shape[1])
        if layer is not None:
            values = values[:, [layer]]
        mean, scale = torch.zeros(values.shape[1:]), torch.ones(values.shape[1:])
        wanted = self.options.downstream_expert.modelrc.standardize
        standardized = wanted is True or (wanted == "auto" and not learned)
        if start is not None:
            start.check_shape(*values.shape[1:])
            standardized = start.statistics != "none"
        if standardized:
            if start is not None and start.mean is not None and start.scale is not None:
                mean, scale = start.mean, start.scale
            else:
                mean, scale = self.statistics(values, features.rows)
            values = (values - mean).div_(scale)  # a crowd's features are too many for a copy that does nothing
        return Prepared(values, features.rows, mean, scale, standardized)

    def statistics(self, values: torch.Tensor, rows: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation over the training split's utterances, each [L, D]."""
        used = sorted({r.utterance for r in self.split.train})
        chosen = values[[rows[u] for u in used]].double()
        scale = chosen.std(dim=0, unbiased=False)
        scale[scale < 1e-8] = 1.0
        return chosen.mean(dim=0).float(), scale.float()

    def labels(self, role: str, rows: dict[str, int]) -> LabelTable:
        """Labels of all who ``train`` (the consensus) or are in ``validation`` or ``test``, added up."""
        from s3prl_metaperser.protocol.loader import LabelTable

        smoothing = self.options.downstream_expert.datarc.smoothing
        return LabelTable.from_ratings(getattr(self.split, role), rows, self.corpus.label_set, smoothing)

    def labels_by_rater(self, role: str, rows: dict[str, int]) -> dict[str, LabelTable]:
        """Rater -> labels, of all who ``train``, or are in ``validation`` or ``test``."""
        from s3prl_metaperser.protocol.loader import LabelTable

        answers, smoothing = self.corpus.label_set, self.options.downstream_expert.datarc.smoothing
        ratings = sorted(self.split.ratings_of(role).items())
        return {rater: LabelTable.from_ratings(mine, rows, answers, smoothing) for rater, mine in ratings}

    def class_weights(self) -> np.ndarray:
        """Class-balanced weights from the consensus labels, float64 [C]."""
        from s3prl_metaperser.protocol.loss import class_balanced_weights

        rows = {rating.utterance: 0 for rating in self.split.train}
        return class_balanced_weights(self.labels("train", rows).targets, self.corpus.label_set)

    def episodes(self, role: str) -> tuple[EpisodeList, ...]:
        """The frozen episode list of each ``test`` or ``validation`` rater."""
        folder = self.cache / "episodes" / self.corpus.fingerprint()[:16]
        return frozen_fold(folder, self.split.ratings_of(role), **self.request(role))

    def check_shots(self) -> None:
        """Raise a UserError if a rater who validates or is tested has too few ratings for K; nothing is written."""
        for role in ("validation", "test"):
            for mine in self.split.ratings_of(role).values():
                make_episodes(mine, **{**self.request(role), "seeds": [0]})

    def request(self, role: str) -> dict[str, Any]:
        """What episodes of ``test`` or ``validation`` raters are drawn by (:func:`.make_episodes`)."""
        evalrc = self.options.downstream_expert.evalrc
        return {
            "corpus": self.corpus.fingerprint(),
            "scenario": self.split.scenario,
            "fold": self.split.fold,
            "shots": evalrc.shots,
            "queries": evalrc.queries,
            "seeds": list(range(evalrc.seeds if role == "test" else evalrc.validation_seeds)),
            "queries_from": self.split.queries if role == "test" else None,
            "by_rater_alone": self.split.pooled,
        }

    def episode_data(self, episodes: Sequence[EpisodeList], prepared: Prepared, role: str) -> tuple[EpisodeData, ...]:
        """Episodes with their features and labels."""
        import torch

        from s3prl_metaperser.methods.base import EpisodeData, Support

        labels = self.labels_by_rater(role, prepared.rows)
        data = []
        for rater, episode in ((each.rater, episode) for each in episodes for episode in each.episodes):
            support, query = labels[rater].select(episode.support), labels[rater].select(episode.query)
            targets = torch.from_numpy(support.targets).to(prepared.values.device)
            shown = Support(prepared.values[support.rows], targets, episode.seed)
            data.append(EpisodeData(shown, prepared.values[query.rows], query))
        return tuple(data)

    def task(
        self,
        prepared: Prepared,
        identity: FeatureIdentity,
        seed: int,
        device: str = "cpu",
        model: FineTunedModel | None = None,
        start: Start | None = None,
    ) -> TrainingTask:
        """What a system may learn from; nothing of the test rater is in it.

        Args:
            model: upstream and head, where the upstream is fine-tuned.
            start: what is started from in place of the initialisation.
        """
        import torch

        from s3prl_metaperser.methods.base import TrainingTask

        on_device = dataclasses.replace(prepared, values=prepared.values.to(device))
        validation = self.episode_data(self.episodes("validation"), on_device, "validation")
        made_from, learned_from = self.made_from(prepared, identity, model, start)
        return TrainingTask(
            features=on_device.values,
            label_set=self.corpus.label_set,
            raters=self.labels_by_rater("train", prepared.rows),
            meta_trainers=self.meta_trainers,
            consensus=self.labels("train", prepared.rows),
            class_weights=torch.from_numpy(self.class_weights()).float().to(device),
            validation=self.labels("validation", prepared.rows),
            validation_episodes=validation,
            options=self.options,
            seed=self.training_seed(seed),
            cache=self.cache,
            identity=digest(made_from),
            model=model,
            made_from=made_from,
            learned_from=learned_from,
            start=start,
        )

    def made_from(
        self,
        prepared: Prepared,
        identity: FeatureIdentity,
        model: FineTunedModel | None = None,
        start: Start | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint depends on, and what an initialisation does, as parts for :mod:`.storage.provenance`.

        An initialisation depends on nothing of the test rater or of utterances used only for testing. A checkpoint
        was selected on episodes drawn from the whole corpus.
        """
        split = self.split
        learned = {rating.utterance for rating in (*split.train, *split.validation)}
        audio = {utterance: value[:16] for utterance, value in self.audio_hashes.items()}
        identity_of_labels = self.corpus.label_set.identity
        shared: dict[str, Any] = {
            "classes": list(self.corpus.classes),
            **({"label set": identity_of_labels} if identity_of_labels else {}),
            "upstream": dataclasses.asdict(identity),
            "features": {
                "shape": list(prepared.values.shape[1:]),
                "standardized": prepared.standardized,
                "statistics": [prepared.mean.double().sum().item(), prepared.scale.double().sum().item()],
            },
            "split": {
                "scenario": split.scenario,
                "fold": split.fold,
                **_part("validation rater", split.validation_raters),
                "training raters": list(split.train_raters),
            },
            "smoothing": self.options.downstream_expert.datarc.smoothing,
        }
        if start is not None:
            shared["start"] = start.sha256
        if model is not None:
            shared["tunerc"] = numbers_of(self.options.downstream_expert.tunerc)
            shared["adapted"] = digest(sorted(model.named_adapted()))
        learned_from = {
            **shared,
            "audio": {utterance: value for utterance, value in audio.items() if utterance in learned},
            "labels": label_hashes((*split.train, *split.validation)),
        }
        made_from = {
            **shared,
            "split": {**shared["split"], **_part("test rater", split.test_raters)},
            "audio": audio,
            "labels": label_hashes((*split.train, *split.validation, *split.test)),
            "corpus": self.corpus.fingerprint(),
        }
        return made_from, learned_from

    def describe(self) -> list[str]:
        """The corpus and split in use, one line each."""
        split, corpus = self.split, self.corpus
        held_out = f", all of session {split.validation_session}" if split.validation_session else ""
        lines = [
            f"corpus {corpus.name}: {len(corpus.utterances)} utterances, {len(corpus.ratings)} ratings, "
            f"{len(corpus.raters())} raters ({corpus.root})",
            f"{split.scenario}/{split.fold}: {in_role('test rater', split.test_raters)} ({len(split.test)} ratings), "
            f"{in_role('validation rater', split.validation_raters)} ({len(split.validation)}{held_out}), "
            f"{len(split.train_raters)} training raters ({len(split.train)})",
        ]
        lines += [f"left out: {count} x {reason}" for reason, count in sorted(corpus.dropped.items())]
        lines += [f"note: {problem.path}: {problem.what}" for problem in corpus.problems[:MOST_NOTES]]
        if (more := len(corpus.problems) - MOST_NOTES) > 0:
            lines.append(f"note: and {more} more notes on the corpus; `metaperser validate` lists them")
        metarc = self.options.downstream_expert.metarc
        if metarc.raters is not None:
            lines.append(f"outer steps draw of {in_role('training rater', self.meta_trainers)} alone (metarc.raters)")
        k, wanted = ("K", metarc.shots) if metarc.on_support else ("2 K", 2 * metarc.shots)  # others for the query
        rated = {rater: len(mine) for rater, mine in sorted(split.ratings_of("train").items())}
        rated = {rater: rated[rater] for rater in self.meta_trainers}
        few = [rater for rater, count in rated.items() if count < wanted]
        lines += said_of(
            few,
            lambda rater: (
                f"has {rated[rater]} ratings, fewer than {k}={wanted}: its episodes hold "
                f"{rated[rater] if metarc.on_support else max(1, rated[rater] // 2)}"
            ),
            lambda: f"have fewer ratings than {k}={wanted}: their episodes hold what they have",
        )
        return [*lines, *split.notes, *(f"note: {doubt}" for doubt in split.doubts)]


def _part(role: str, raters: Sequence[str]) -> dict[str, Any]:
    """Raters as a part of what something was made from; one is named alone."""
    return {role: "".join(raters)} if len(raters) < 2 else {f"{role}s": list(raters)}


def check_layer(layer: int | None, layers: int) -> None:
    """Raise a UserError if an upstream with so many layers has no such one (``-l``)."""
    if layer is not None and not -layers <= layer < layers:
        raise UserError(f"Layer {layer} (-l) does not exist: the upstream has layers 0 to {layers - 1}.")


def say(line: str) -> None:
    """Print a line of the project on stderr, like s3prl; only the first process prints."""
    if os.environ.get("RANK", "0") == "0":
        print(printable(f"[MetaPerSER] {line}"), file=sys.stderr, flush=True)
