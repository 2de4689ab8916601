"""Speaker classification as a start for ResNet18 on log-mel frames (Gandhi et al., section III; Chung et al. 2018).

The paper's weights are not published. What they were trained on is: folders of speakers, as VoxCeleb has them,
two-second crops, SGD with momentum 0.9 at a rate of 0.01, 64 in a batch, 50 epochs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from s3prl_metaperser.corpora.audio import RATE, audio_seconds, load_audio
from s3prl_metaperser.corpora.folders import files_below
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.augment import Augmentation, augmented, crop
from s3prl_metaperser.generalise.resnet18 import ResNet18
from s3prl_metaperser.seeding import numpy_generator, torch_generator
from s3prl_metaperser.storage.checkpoints import load_checked, save_checkpoint
from s3prl_metaperser.storage.disk import writing
from s3prl_metaperser.storage.provenance import digest
from s3prl_metaperser.storage.tensor_files import read_said, read_tensors, write_tensors
from s3prl_metaperser.upstream.logmel import LogMel, LogMelOptions

#: Batches between two checkpoints.
SAVED_EVERY = 500
_AGAIN = "Make it again: metaperser pretrain DIR --out FILE"
_SHOWN = 3


@dataclass(frozen=True)
class Pretraining:
    """How the network is pre-trained; the defaults are the paper's, and its windows ``hamming`` in the text.

    Attributes:
        held_out: share of each speaker's recordings that accuracy is measured on.
    """

    epochs: int = 50
    batch_size: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    channels: int = 64
    seconds: float = 2.0
    window: Literal["hann", "hamming"] = "hann"
    held_out: float = 0.05
    seed: int = 0

    @property
    def samples(self) -> int:
        """Of a crop."""
        return round(self.seconds * RATE)


@dataclass(frozen=True)
class Speakers:
    """Recordings by speaker.

    Attributes:
        train: (file, speaker's place) to learn from.
        held_out: the same, to measure on.
        passed_over: what else is in the folder, counted.
    """

    names: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    held_out: tuple[tuple[Path, int], ...]
    passed_over: str = ""

    def fingerprint(self, root: Path) -> str:
        """Of the files' names."""
        return digest([[str(path.relative_to(root)), who] for path, who in (*self.train, *self.held_out)])


@dataclass
class Progress:
    """Where pre-training stands.

    Attributes:
        losses: mean training loss of each finished epoch.
        accuracy: of each finished epoch on the recordings that were held out; NaN without any.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    since: list[float] = field(default_factory=list)


def find_speakers(root: Path, settings: Pretraining) -> Speakers:
    """A folder's folders as speakers, with all recordings below each of them.

    Raises:
        UserError: fewer than two speakers, or recordings that cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder. Give the one whose folders are the speakers.")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    below = {folder.name: files_below(folder) for folder in folders if not folder.name.startswith(".")}
    names = tuple(name for name, found in below.items() if found.audio)
    if len(names) < 2:
        inside = f"; {names[0]} is the only one" if names else ""
        raise UserError(
            f"{root} has {len(names)} folders with recordings{inside}, and each counts as a speaker. Give the folder "
            "whose folders are the speakers (VoxCeleb: the one named wav)."
        )
    unreadable = [_reason(path) for found in below.values() for path in found.audio]
    if wrong := [reason for reason in unreadable if reason]:
        raise UserError(
            f"{len(wrong)} of {len(unreadable)} recordings in {root} cannot be read: {' '.join(wrong[:_SHOWN])} Fetch "
            "them again, or move them away."
        )
    train: list[tuple[Path, int]] = []
    held: list[tuple[Path, int]] = []
    for who, name in enumerate(names):
        files = below[name].audio
        order = numpy_generator("pretraining, held out", settings.seed, name).permutation(len(files))
        many = min(len(files) - 1, math.ceil(settings.held_out * len(files)))
        chosen = set(order[:many].tolist())
        for place, path in enumerate(files):
            (held if place in chosen else train).append((path, who))
    others = [f"{name}: {found.passed_over()}" for name, found in below.items() if found.passed_over()]
    return Speakers(names, tuple(train), tuple(held), "; ".join(others[:_SHOWN]))


def _reason(path: Path) -> str:
    """Why a recording cannot be read, by its header; empty if it can be."""
    try:
        audio_seconds(path)
    except UserError as error:
        return str(error)
    return ""


class Trainer:
    """Pre-training that can stop and go on.

    Args:
        states: the file with its state.

    Raises:
        UserError: ``states`` is of other recordings or settings.
    """

    def __init__(self, root: Path, speakers: Speakers, settings: Pretraining, states: Path, device: str = "cpu"):
        self.speakers, self.settings, self.states, self.device = speakers, settings, states, device
        generator = torch_generator("pretraining", settings.seed)
        self.network = ResNet18(1, len(speakers.names), generator, channels=settings.channels).to(device)
        self.front_end = LogMel(LogMelOptions(settings.window)).to(device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=settings.lr, momentum=settings.momentum)
        self.progress = Progress()
        self.made_from = {"files": speakers.fingerprint(root), "settings": dataclasses.asdict(settings)}
        if states.is_file():
            self._resume()

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self.speakers.train) / self.settings.batch_size)

    def run(self) -> Iterator[str]:
        """Train to the end; a line an epoch."""
        total = self.settings.epochs * self.per_epoch
        while self.progress.step < total:
            self._take_step()
            if self.progress.step % self.per_epoch == 0:
                yield self._end_epoch()
            if self.progress.step % SAVED_EVERY == 0 or self.progress.step % self.per_epoch == 0:
                self._save()

    def write(self, out: Path) -> None:
        """The network without its classifier of speakers, and what it was made from."""
        kept = {n: v.cpu() for n, v in self.network.state_dict().items() if not n.startswith("classifier.")}
        said = {name: str(value) for name, value in dataclasses.asdict(self.settings).items()}
        numbers = {"speakers": len(self.speakers.names), "recordings": len(self.speakers.train)}
        said |= {name: str(value) for name, value in numbers.items()}
        with writing(out):
            write_tensors(out, kept, {**said, "told": f"{self.progress.accuracy[-1]:.4f}"})
        self.states.unlink(missing_ok=True)

    # -- one step ------------------------------------------------------------------------------------------------------

    def _take_step(self) -> None:
        settings, progress = self.settings, self.progress
        epoch, place = divmod(progress.step, self.per_epoch)
        order = numpy_generator("pretraining", settings.seed, epoch).permutation(len(self.speakers.train))
        rows = order[place * settings.batch_size : (place + 1) * settings.batch_size]
        chosen, how = [self.speakers.train[row] for row in rows], Augmentation(settings.samples, probability=0.0)
        named = zip(chosen, rows.tolist(), strict=True)
        waves = [augmented(_wave(path), how, settings.seed, epoch, row) for (path, _), row in named]
        self.network.train()
        logits = self.network(self._frames(waves))
        loss = torch.nn.functional.cross_entropy(logits, self._labels(chosen))
        if not math.isfinite(loss.item()):
            raise UserError(f"Batch {progress.step + 1} gives a loss of {loss.item()}. Lower --lr {settings.lr:g}.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        progress.step += 1
        progress.since.append(loss.item())

    def _end_epoch(self) -> str:
        progress, settings = self.progress, self.settings
        progress.losses.append(sum(progress.since) / len(progress.since))
        progress.since.clear()
        progress.accuracy.append(self.accuracy())
        return (
            f"epoch {len(progress.losses)} of {settings.epochs}: loss {progress.losses[-1]:.3f}, "
            f"accuracy {progress.accuracy[-1]:.3f} on {len(self.speakers.held_out)} recordings that were held out"
        )

    def accuracy(self) -> float:
        """Share of the held-out recordings' middles whose speaker is told."""
        right, held = 0, self.speakers.held_out
        self.network.eval()
        for start in range(0, len(held), self.settings.batch_size):
            part = held[start : start + self.settings.batch_size]
            waves = [crop(_wave(path), self.settings.samples) for path, _ in part]
            with torch.no_grad():
                right += int((self.network(self._frames(waves)).argmax(1) == self._labels(part)).sum())
        return right / len(held) if held else math.nan

    def _frames(self, waves: Sequence[Tensor]) -> Tensor:
        with torch.no_grad():
            return self.front_end.frames(torch.stack(list(waves)).to(self.device)).unsqueeze(1)

    def _labels(self, part: Sequence[tuple[Path, int]]) -> Tensor:
        return torch.tensor([who for _, who in part], device=self.device)

    # -- state ---------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        content = {
            "MadeFrom": self.made_from,
            "Network": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "Optimizer": self.optimizer.state_dict(),
            "Progress": dataclasses.asdict(self.progress),
        }
        with writing(self.states):
            save_checkpoint(self.states, content)

    def _resume(self) -> None:
        advice = f"Remove {self.states} to start anew."
        try:
            content: Any = load_checked(self.states)
            made_from, state = content["MadeFrom"], content["Progress"]
        except Exception as error:  # damaged bytes make torch and pickle raise nearly anything
            raise UserError(f"Cannot resume from {self.states} ({type(error).__name__}: {error}). {advice}") from None
        if made_from != self.made_from:
            what = "settings" if made_from["files"] == self.made_from["files"] else "recordings"
            raise UserError(f"Cannot resume from {self.states}: it was trained with other {what}. {advice}")
        self.network.load_state_dict(content["Network"])
        self.optimizer.load_state_dict(content["Optimizer"])
        self.progress = Progress(**state)


def _wave(path: Path) -> Tensor:
    return torch.from_numpy(load_audio(path))


def load_weights(network: ResNet18, path: Path) -> str:
    """Start a network from pre-trained weights; its classifier and layer weights stay as they are.

    Returns:
        what the weights are, for the log.

    Raises:
        UserError: no such file, not one of :meth:`Trainer.write`, or a network of another size.
    """
    if not path.is_file():
        raise UserError(f"modelrc.weights: {path} does not exist. {_AGAIN}")
    said, _ = read_said(path, _AGAIN)
    tensors = read_tensors(path, _AGAIN)
    wanted = {n: v for n, v in network.state_dict().items() if not n.startswith("classifier.") and n != "weights"}
    if wanted.keys() != tensors.keys() or "speakers" not in said:
        raise UserError(f"modelrc.weights: {path} holds no weights of this ResNet18. {_AGAIN}")
    if any(wanted[name].shape != value.shape for name, value in tensors.items()):
        raise UserError(
            f"modelrc.weights: {path} has {said['channels']} channels in its first stage, the model "
            f"{network.conv1.out_channels}. Set modelrc.channels={said['channels']}."
        )
    network.load_state_dict(tensors, strict=False)
    return (
        f"weights of {path}: {said['speakers']} speakers, {said['recordings']} recordings, {said['epochs']} epochs, "
        f"{said['window']} windows, speaker accuracy {said['told']}"
    )
