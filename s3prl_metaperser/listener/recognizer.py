"""Speech emotion recognition for one listener, from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.folder import CARD, TENSORS, read_folder, write_folder
from s3prl_metaperser.listener.labels import ANSWER_COLUMNS, ListenerLabels, answer_text
from s3prl_metaperser.listener.model import LoadedModel, said_of_unlike
from s3prl_metaperser.listener.prepare import prepare
from s3prl_metaperser.listener.waves import Clip, as_clips, name_of
from s3prl_metaperser.methods.base import Predictor, System
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.html_text import html_table
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    import pandas

#: What tensors raise that do not fit the card, or a machine that cannot make the model.
_UNFIT = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError)
T = TypeVar("T")


class PersonalizedEmotionRecognizer:
    """Predicts what a listener hears in speech.

    Made by :meth:`load`, or from another one by :meth:`adapt`; it never changes. One that was loaded from an exported
    model and not adapted predicts for no listener in particular, with the model's initialisation as it is.

    Several threads may call :meth:`predict` and :meth:`adapt` at once. One thread at a time uses a model's upstream or,
    where the upstream is fine-tuned, all of the model.

    Attributes:
        label_set: what listeners may answer: classes, kind (``multi``, ``single``, ``soft``, ``ordinal``), spellings.
        classes: its C names, the order of every array with a class axis.
        listener: what the card says of the listener; None for a model that is not adapted.

    Examples:
        ``model`` is the folder of an exported model whose raters tick one or more of nine emotions, ``a.wav`` to
        ``c.wav`` are clips.

        >>> recognizer = PersonalizedEmotionRecognizer.load(model)
        >>> recognizer.label_set.kind, recognizer.classes[:3]
        ('multi', ('frustrated', 'angry', 'sad'))
        >>> mine = recognizer.adapt(["a.wav", "b.wav"], ["happy", "neutral;sad"])
        >>> mine.listener["clips"]
        2
        >>> mine.predict_proba(["c.wav"]).shape
        (1, 9)
        >>> list(mine.predict(["c.wav"]).columns[-2:])
        ['happy', 'ticked']
        >>> mine.save("listener").name
        'listener'
        >>> recognizer.adapt(["a.wav"], ["hapy"])
        Traceback (most recent call last):
            ...
        s3prl_metaperser.errors.UserError: labels[0]: unknown label 'hapy'. Did you mean 'happy'? Available: \
frustrated, angry, sad, disgust, excited, fear, neutral, surprise, happy, other; several are joined by ';'.
    """

    def __init__(
        self,
        model: LoadedModel,
        predictor: Predictor,
        listener: dict[str, Any] | None,
        system: System | None = None,
    ):
        self._model, self._predictor, self._system = model, predictor, system or model.system
        self.label_set: LabelSet = model.label_set
        self.classes, self.listener = model.classes, listener

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        upstream_ckpt: str | Path | None = None,
        upstream_model_config: str | Path | None = None,
        device: str = "cpu",
    ) -> PersonalizedEmotionRecognizer:
        """Load an exported model or an adapted listener.

        Args:
            path: the folder.
            upstream_ckpt: the upstream's weights; without them s3prl's download is used, which is fetched where it is
                not in the cache and the hub knows where from.
            upstream_model_config: the upstream's configuration, for the few that need one.
            device: where to compute.

        Raises:
            UserError: not a model folder, a damaged one, or other upstream weights than it was trained with.
        """
        folder = read_folder(user_path(path))
        ckpt, config = (None if p is None else str(p) for p in (upstream_ckpt, upstream_model_config))
        try:
            model = LoadedModel(folder, ckpt, config, device)
        except _UNFIT as error:
            what = f"{type(error).__name__}: {error}"[:200]
            raise UserError(
                f"{folder.path / CARD} and {TENSORS} beside it do not make a model here ({what}). Unless that is "
                "trouble of this machine, the card was edited or is damaged: copy the folder again, or export it again."
            ) from error
        return cls(model, model.predictor, folder.card.listener)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(f'{name} {said}' for name, said in self._facts())}>"

    def _repr_html_(self) -> str:
        return html_table("A recogniser of what a listener hears", self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        upstream, listener = self._model.card.upstream, self.listener
        clips = (
            "no listener yet" if listener is None else f"{listener['rater'] or 'a listener'}, {listener['clips']} clips"
        )
        return [
            ("system", self._system.name),
            ("upstream", f"{upstream.name} ({self._model.card.scope})"),
            ("adapted to", clips),
            ("answers", f"{self.label_set.kind}: {', '.join(self.classes)}"),
        ]

    @property
    def model(self) -> LoadedModel:
        """What it shares with every recogniser that comes from the same folder."""
        return self._model

    @property
    def predictor(self) -> Predictor:
        """What predicts: the parameters of :attr:`system`."""
        return self._predictor

    @property
    def system(self) -> System:
        """The way in which it was adapted, or would be."""
        return self._system

    @property
    def card(self) -> dict[str, Any]:
        """The card of the folder that it was loaded from. docs/listener.md explains its keys."""
        return self._model.card.as_json()

    def adapt(
        self,
        wavs: Clip | Sequence[Clip],
        labels: Sequence[str | float | Sequence[str] | Mapping[str, float]],
        *,
        sampling_rate: int | None = None,
        seed: int = 0,
        system: str | None = None,
    ) -> PersonalizedEmotionRecognizer:
        """A recogniser for the listener who gave these labels; this one stays as it is.

        Args:
            wavs: K clips: paths, or NumPy arrays or torch tensors of shape (n,) or (1, n), float with full scale 1 or
                int16.
            labels: the listener's answer to each clip, in any spelling that the label set knows: ``"happy"``; where
                several may be ticked ``"happy;surprise"`` or a sequence of names; of shares
                ``{"happy": 0.7, "sad": 0.3}``; on a scale a number.
            sampling_rate: of arrays, in Hz.
            seed: for systems that draw (Multi-Few); Meta-PerSER does not.
            system: the way to adapt, one of ``model.ways`` (``"zero-shot+bias"``); by default the model's own system.

        Returns:
            The adapted recogniser.

        Raises:
            UserError: unreadable clips, a label that the model does not have, not one label for each clip, this
                recogniser is already adapted, or adaptation diverges.
        """
        clips, given = as_clips(wavs), ListenerLabels.read(labels, self.label_set)
        if len(clips) != len(given) or not clips:
            raise UserError(f"{len(clips)} clips and {len(given)} labels. Give one label for each clip.")
        return self.adapt_items(self.items(clips, sampling_rate=sampling_rate), given, seed=seed, system=system)

    def items(
        self,
        wavs: Clip | Sequence[Clip],
        *,
        sampling_rate: int | None = None,
        batch_size: int = 1,
        progress: str | None = None,
    ) -> list[torch.Tensor]:
        """What the model needs of clips, computed once for several uses.

        Args:
            wavs: as in :meth:`adapt`; so is ``sampling_rate``.
            batch_size: as in :meth:`predict_proba`.
            progress: the title of a progress bar on stderr; no bar without it.

        Returns:
            Features [L, D] of each clip, or with -f its waveform.

        Raises:
            UserError: a clip that cannot be read.
        """
        clips = as_clips(wavs)
        with tqdm(total=len(clips), desc=progress, disable=progress is None, unit="clip", dynamic_ncols=True) as bar:
            made = prepare(self._model, clips, bar, sampling_rate=sampling_rate, batch_size=max(batch_size, 1))
        return list(made.values())

    def adapt_items(
        self, items: Sequence[torch.Tensor], labels: ListenerLabels, *, seed: int = 0, system: str | None = None
    ) -> PersonalizedEmotionRecognizer:
        """:meth:`adapt` with what :meth:`items` made, and labels under the model's label set."""
        self.check_unadapted()
        model = self._model
        way = model.system if system is None else model.way(system)
        (predictor,) = model.adapt([(items, model.targets(labels))], seed, way)
        listener: dict[str, Any] = {
            "model_sha256": model.card.sha256,
            "rater": None,
            "clips": len(items),
            "ticks": labels.totals(),
            "seed": seed,
            "warnings": said_of_unlike(int(model.unlike(items).sum()), len(items)),
            "fit": None,
        }
        return PersonalizedEmotionRecognizer(model, way.as_one_head(model.state, predictor), listener, way)

    def check_unadapted(self) -> None:
        """Raise a UserError if this recogniser is adapted: adaptation starts from the base model."""
        if self.listener is not None:
            raise UserError(
                "This recogniser is already adapted. Adapt the base model, with all of the listener's clips."
            )

    def predict_proba(
        self, wavs: Clip | Sequence[Clip], *, sampling_rate: int | None = None, batch_size: int = 1
    ) -> np.ndarray:
        """Probabilities of N clips.

        Args:
            wavs: as in :meth:`adapt`.
            sampling_rate: of arrays, in Hz.
            batch_size: clips in one forward pass of the upstream; with the upstreams that can be batched exactly this
                changes results by rounding alone, and with all others it changes nothing.

        Returns:
            float32 [N, C]: predicted shares of the classes, or probabilities of the levels of a scale.

        Raises:
            UserError: a clip that cannot be read.
        """
        found = [np.empty((0, len(self.classes)), dtype=np.float32)]
        for part in self.chunks(as_clips(wavs)):
            found.append(self.predict_items(self.items(part, sampling_rate=sampling_rate, batch_size=batch_size)))
        return np.concatenate(found)

    def unlike_training(
        self, wavs: Clip | Sequence[Clip], *, sampling_rate: int | None = None, batch_size: int = 1
    ) -> np.ndarray:
        """Which of N clips are farther from the mean features of the training split than 99 in 100 of its own.

        Args:
            wavs: as in :meth:`predict_proba`; so are the others.

        Returns:
            bool [N]; all False where the model cannot say: on a fine-tuned upstream, and trained by 0.2.0 or earlier.

        Raises:
            UserError: a clip that cannot be read.
        """
        parts = self.chunks(as_clips(wavs))
        found = [self._model.unlike(self.items(p, sampling_rate=sampling_rate, batch_size=batch_size)) for p in parts]
        return np.concatenate([np.zeros(0, dtype=bool), *found])

    def chunks(self, clips: Sequence[T]) -> Iterator[Sequence[T]]:
        """Clips in parts that are predicted together: features are small, waveforms are not."""
        size = 32 if self._model.finetuned else 1024
        return (clips[start : start + size] for start in range(0, len(clips), size))

    def predict_items(self, items: Sequence[torch.Tensor]) -> np.ndarray:
        """:meth:`predict_proba` of what :meth:`items` made."""
        return self._model.predict(self._predictor, items, self._system)

    def predict(
        self, wavs: Clip | Sequence[Clip], *, sampling_rate: int | None = None, batch_size: int = 1
    ) -> pandas.DataFrame:
        """Predictions of N clips as a data frame.

        Args:
            wavs: as in :meth:`predict_proba`; so are the others.

        Returns:
            N rows, by the clips' paths (or their place in the list): a column of probabilities for each class, which
            sum to one, and the answer that they stand for: ``ticked``, the classes above 1/C joined by ``;``;
            ``label``, the most probable class (of shares: the classes above 1/C); or ``value``, a number on the scale.
            Printed, it shows the answer and the most probable classes.

        Raises:
            UserError: a clip that cannot be read, or pandas is not installed.
        """
        try:
            import pandas

            from s3prl_metaperser.listener.predictions import Predictions
        except ModuleNotFoundError:
            raise UserError(
                "predict() returns a pandas.DataFrame, and pandas is not installed. Type: pip install "
                "'s3prl-metaperser[listener]', or use predict_proba(), which returns a NumPy array."
            ) from None
        clips = as_clips(wavs)
        found = self.predict_proba(clips, sampling_rate=sampling_rate, batch_size=batch_size)
        names = [name_of(clip, index) for index, clip in enumerate(clips)]
        frame = Predictions(found, columns=list(self.classes), index=pandas.Index(names, name="clip"))
        answers = self.answers(found)
        column, scale = ANSWER_COLUMNS[self.label_set.kind], self.label_set.kind == "ordinal"
        shown = answers if scale else [answer_text(answer) for answer in answers]
        frame[column] = np.array(shown, dtype=np.float64 if scale else object)  # of no clips, too
        return frame

    def answers(self, probabilities: np.ndarray) -> list[Answer]:
        """The answer that each row of probabilities [N, C] stands for.

        Returns:
            The classes above 1/C, the most probable first; where one class is chosen, that one alone; on a scale a
            number.
        """
        return self._model.decided(probabilities)

    def save(self, path: str | Path, **notes: Any) -> Path:
        """Write an adapted recogniser as a folder that :meth:`load` reads.

        Args:
            path: a new or empty folder.
            notes: ``rater``, ``warnings``, ``fit`` and ``choice``, for the card.

        Raises:
            UserError: it is not adapted, or the folder is in use.
        """
        if self.listener is None:
            raise UserError("Only an adapted recogniser can be saved. This one is still in the folder it came from.")
        model = self._model
        card = dataclasses.replace(
            model.card,
            kind="listener",
            system=self._system.name,
            parameters=tuple(self._predictor),
            listener={**self.listener, **notes},
        )
        return write_folder(user_path(path), card, {**self._predictor, **model.preprocessing})
