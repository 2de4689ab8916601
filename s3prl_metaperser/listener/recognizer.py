"""Speech emotion recognition for one listener, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.corpora.label_set import LabelError, LabelSet
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.listener.folder import CARD, MEAN, SCALE, SCHEMA, TENSORS, read_folder, write_folder
from s3prl_metaperser.listener.model import LoadedModel, tick_table
from s3prl_metaperser.listener.waves import Clip, as_clips, name_of, waveform
from s3prl_metaperser.methods.base import Predictor
from s3prl_metaperser.protocol.labels import binarise
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    import pandas

#: What comes of a card whose values are of other types or sizes than the tensors need.
_UNFIT = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError)
#: Clips that are predicted together: features are small, waveforms are not.
CHUNK = {"frozen": 1024, "finetuned": 32}


class PersonalizedEmotionRecognizer:
    """Predicts what emotions a listener hears in speech.

    Made by :meth:`load`, or from another one by :meth:`adapt`; it never changes. One that was loaded from an exported
    model and not adapted predicts for no listener in particular, with the model's initialisation as it is.

    :meth:`predict` and :meth:`adapt` may be called from several threads. The upstream of a model, and with a fine-tuned
    upstream all of it, is used by one thread at a time.

    Attributes:
        classes: C names, the order of every array with a class axis.
        listener: what the card says of the listener; None for a model that is not adapted.

    Examples:
        >>> recognizer = PersonalizedEmotionRecognizer.load("MODEL")  # doctest: +SKIP
        >>> mine = recognizer.adapt(["a.wav", "b.wav"], ["happy", "neutral;sad"])  # doctest: +SKIP
        >>> mine.predict(["c.wav"])  # doctest: +SKIP
    """

    def __init__(self, model: LoadedModel, predictor: Predictor, listener: dict[str, Any] | None):
        self._model, self._predictor = model, predictor
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
        return cls(model, model.predictor, folder.card["listener"])

    @property
    def model(self) -> LoadedModel:
        """What it shares with every recogniser that comes from the same folder."""
        return self._model

    @property
    def card(self) -> dict[str, Any]:
        """The card of the folder that it was loaded from. docs/listener.md explains its keys."""
        return self._model.card

    def adapt(
        self,
        wavs: Clip | Sequence[Clip],
        labels: Sequence[str | Sequence[str]],
        *,
        sampling_rate: int | None = None,
        seed: int = 0,
    ) -> PersonalizedEmotionRecognizer:
        """A recogniser for the listener who gave these labels; this one stays as it is.

        Args:
            wavs: K clips: paths, or NumPy arrays or torch tensors of shape (n,) or (1, n), float with full scale 1 or
                int16.
            labels: for each clip the classes that the listener ticked: ``"happy"``, ``"happy;surprise"`` or a sequence
                of names. Synonyms that ratings.csv may hold will do.
            sampling_rate: of arrays, in Hz.
            seed: of what some systems draw (Multi-Few); Meta-PerSER draws nothing.

        Raises:
            UserError: unreadable clips, unknown labels, as many labels as clips are not there, this recogniser is
                adapted already, or adaptation diverges.
        """
        clips, ticks = as_clips(wavs), parse_labels(labels, self._model.label_set)
        if len(clips) != len(ticks) or not clips:
            raise UserError(
                f"{len(clips)} clips and {len(ticks)} labels: give one label (or several ticks) for each clip."
            )
        return self.adapt_items(self.items(clips, sampling_rate=sampling_rate), ticks, seed=seed)

    def items(
        self,
        wavs: Clip | Sequence[Clip],
        *,
        sampling_rate: int | None = None,
        batch_size: int = 1,
        progress: str | None = None,
    ) -> list[torch.Tensor]:
        """What the model needs of clips, made once for several uses: features [L, D] each, or with -f the waveforms.

        Args:
            wavs: as in :meth:`adapt`; so is ``sampling_rate``.
            batch_size: as in :meth:`predict_proba`.
            progress: what a progress bar on stderr says; no bar without it.
        """
        clips = as_clips(wavs)
        made: list[Any] = [None] * len(clips)
        with tqdm(total=len(clips), desc=progress, disable=progress is None, unit="clip", dynamic_ncols=True) as bar:
            if batch_size > 1:  # neighbours in length share a batch, so that little is padded
                clips = [waveform(clip, sampling_rate) for clip in clips]
                order, sampling_rate = sorted(range(len(clips)), key=lambda index: len(clips[index])), RATE
            else:
                order = list(range(len(clips)))
            for start in range(0, len(order), max(batch_size, 1)):
                chosen = order[start : start + max(batch_size, 1)]
                waves = [waveform(clips[index], sampling_rate) for index in chosen]
                for index, item in zip(chosen, self._model.items(waves), strict=True):
                    made[index] = item
                bar.update(len(chosen))
        return made

    def adapt_items(
        self, items: Sequence[torch.Tensor], ticks: Sequence[Sequence[str]], *, seed: int = 0
    ) -> PersonalizedEmotionRecognizer:
        """:meth:`adapt` with what :meth:`items` made, and class names."""
        model = self._unadapted_model()
        (predictor,) = model.adapt([(items, model.targets(ticks))], seed)
        counts = tick_table(ticks, self.classes).sum(0).tolist()
        listener = {
            "model_sha256": model.card["sha256"],
            "rater": None,
            "clips": len(items),
            "ticks": dict(zip(self.classes, counts, strict=True)),
            "seed": seed,
            "warnings": [],
            "fit": None,
        }
        return PersonalizedEmotionRecognizer(model, predictor, listener)

    def predict_proba(
        self, wavs: Clip | Sequence[Clip], *, sampling_rate: int | None = None, batch_size: int = 1
    ) -> np.ndarray:
        """Probabilities, float32 [N, C], of N clips.

        Args:
            wavs: as in :meth:`adapt`.
            sampling_rate: of arrays, in Hz.
            batch_size: clips in one forward pass of the upstream; with the upstreams that can be batched exactly this
                changes results by rounding alone, and with all others it changes nothing.

        Raises:
            UserError: a clip that cannot be read.
        """
        clips, found, size = as_clips(wavs), [], CHUNK[self._model.card["scope"]]
        for start in range(0, len(clips), size):
            part = clips[start : start + size]
            found.append(self.predict_items(self.items(part, sampling_rate=sampling_rate, batch_size=batch_size)))
        return np.concatenate(found) if found else np.empty((0, len(self.classes)), dtype=np.float32)

    def predict_items(self, items: Sequence[torch.Tensor]) -> np.ndarray:
        """:meth:`predict_proba` of what :meth:`items` made."""
        return self._model.predict(self._predictor, items)

    def predict(
        self, wavs: Clip | Sequence[Clip], *, sampling_rate: int | None = None, batch_size: int = 1
    ) -> pandas.DataFrame:
        """Predictions of N clips as a data frame.

        Args:
            wavs: as in :meth:`predict_proba`; so are the others.

        Returns:
            N rows, by the clips' paths (or their place in the list): a column of probabilities for each class, which
            sum to one, and ``ticked``, the classes above 1/C joined by ``;``.

        Raises:
            UserError: a clip that cannot be read, or pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise UserError(
                "predict() returns a pandas.DataFrame, and pandas is not installed. Type: pip install "
                "'s3prl-metaperser[listener]', or use predict_proba(), which returns a NumPy array."
            ) from None
        clips = as_clips(wavs)
        found = self.predict_proba(clips, sampling_rate=sampling_rate, batch_size=batch_size)
        names = [name_of(clip, index) for index, clip in enumerate(clips)]
        frame = pandas.DataFrame(found, columns=list(self.classes), index=pandas.Index(names, name="clip"))
        frame["ticked"] = np.array(
            [";".join(ticked) for ticked in self.ticked(found)], dtype=object
        )  # of no clips, too
        return frame

    def ticked(self, probabilities: np.ndarray) -> list[tuple[str, ...]]:
        """The classes above 1/C of each row of probabilities [N, C], the most probable first."""
        found = []
        for row, chosen in zip(probabilities, binarise(probabilities), strict=True):
            found.append(tuple(self.classes[index] for index in np.argsort(-row, kind="stable") if chosen[index]))
        return found

    def save(self, path: str | Path, **notes: Any) -> Path:
        """Write an adapted recogniser as a folder that :meth:`load` reads.

        Args:
            path: a new or empty folder.
            notes: of ``rater``, ``warnings`` and ``fit``, for the card.

        Raises:
            UserError: it is not adapted, or the folder is in use.
        """
        if self.listener is None:
            raise UserError(
                "Only an adapted recogniser is saved; the model that is not adapted lies where it was loaded."
            )
        model = self._model
        card = {
            **{key: value for key, value in model.card.items() if key != "sha256"},
            "schema": SCHEMA,
            "kind": "listener",
            "parameters": list(self._predictor),
            "listener": {**self.listener, **notes},
        }
        tensors = dict(self._predictor)
        if not model.finetuned:
            tensors |= {MEAN: model.inputs.mean, SCALE: model.inputs.scale}
        return write_folder(user_path(path), card, tensors)

    def _unadapted_model(self) -> LoadedModel:
        if self.listener is not None:
            raise UserError(
                "This recogniser is adapted to a listener already. Adapt the model that it came from, to all clips of "
                "the listener at once."
            )
        return self._model


def parse_labels(labels: Sequence[str | Sequence[str]], label_set: LabelSet) -> list[tuple[str, ...]]:
    """Class names of each clip's label, each once, in the order of the classes; as in ratings.csv.

    Raises:
        UserError: an unknown name, a label with no class in it, or something that is no label.
    """
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        what = "one text" if isinstance(labels, str) else shown(labels)
        raise UserError(f"labels must be a sequence with one entry a clip, got {what}.")
    found = []
    for number, label in enumerate(labels):
        if not isinstance(label, Iterable):
            raise UserError(f"labels[{number}] is {shown(label)}, expected text such as 'happy', or several names.")
        try:
            cell = label_set.checked(label if isinstance(label, str) else ";".join(map(str, label)))
        except LabelError as fault:
            raise UserError(f"labels[{number}]: {fault}") from None
        if not cell.ticks:
            raise UserError(f"labels[{number}] is {label!r}: no class is ticked. Leave the clip out.")
        found.append(cell.ticks)
    return found
