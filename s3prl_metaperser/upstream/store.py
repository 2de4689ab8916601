"""The pooled feature store: each utterance's time-mean of every layer, [L, D], computed once and kept; or with
``modelrc.pooling: statistics`` more of it, [L, 2 D + 1].

With a frozen upstream and the linear head nothing else is needed (see :mod:`s3prl_metaperser.meta.model`). A store
belongs to one upstream, checkpoint, preprocessing and code (:func:`.sources.code_of`); inside it, features are keyed by
the SHA-256 of the audio file, so that a swapped or changed file never matches old features.

A store is a folder of safetensors shards, each written whole or not at all, with a checksum that is compared when
features are read. Extraction resumes where it stopped, and of two processes that want the same store one does the work
and the other waits.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser.corpora.audio import RATE, load_audio
from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.s3prl_stack.hub_index import hub_index
from s3prl_metaperser.storage.disk import clear_leftovers
from s3prl_metaperser.storage.json_files import parse_json
from s3prl_metaperser.storage.locks import PATIENCE, held
from s3prl_metaperser.storage.provenance import digest, refuse
from s3prl_metaperser.storage.sources import code_of
from s3prl_metaperser.storage.tensor_files import read_said, read_tensors, write_tensors
from s3prl_metaperser.upstream.pooling import Pooling
from s3prl_metaperser.upstream.prefetch import prefetched

#: Raised whenever the same input would give other features: checkpoints and exported models of another are refused.
RECIPE = 1
#: Modules that make features, and where what they import counts as well. The store goes by this code.
CODE = (
    *("upstream.store", "upstream.pooling", "corpora.audio"),
    *("s3prl_stack.hub", "s3prl_stack.compat", "s3prl_stack.whole_weights"),
)
WITHIN = ("upstream", "corpora.audio")
#: The same for this project's own upstreams, which are no s3prl's.
OWN_CODE = (*CODE, "upstream.hubconf")
AGAIN = "Delete it to compute its features again."
SHARD_SIZE = 128
#: The longest utterance of a batch over its shortest: padding is exact, but work all the same.
PADDING = 1.1
#: Below this spread over utterances, in the upstream's units, pooled features carry no information (CMVN leaves 3e-8).
NOTHING = 1e-5


@dataclass(frozen=True)
class FeatureIdentity:
    """What features are computed from.

    Attributes:
        upstream: s3prl hub name.
        checkpoint: SHA-256 of what defines the upstream's weights and settings.
        selection: s3prl's ``-s``.
        normalize: s3prl's ``--upstream_feature_normalize``: layer norm of each frame, before the mean.
        dtype: ``float32`` or ``float16``, as stored.
        precision: ``float32`` or ``bfloat16``, of the upstream's forward pass.
        pooling: ``mean`` or ``statistics``, over time.
    """

    upstream: str
    checkpoint: str
    selection: str = "hidden_states"
    normalize: bool = False
    dtype: str = "float32"
    sample_rate: int = RATE
    recipe: int = RECIPE
    precision: str = "float32"
    pooling: Pooling = "mean"

    @property
    def key(self) -> str:
        """Names the store's folder."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """As plain JSON values; the default precision and pooling are omitted, so that older stores keep their key."""
        said = asdict(self)
        if self.pooling == "mean":
            del said["pooling"]
        if self.precision == "float32":
            del said["precision"]
        return said


@dataclass(frozen=True)
class PooledFeatures:
    """Features of a corpus in memory.

    Attributes:
        rows: utterance id -> row of ``values``.
        values: float32 [N, L, D].
    """

    rows: dict[str, int]
    values: torch.Tensor

    def of(self, utterances: Sequence[str]) -> torch.Tensor:
        """Features of these utterances in this order, [K, L, D]."""
        return self.values[[self.rows[utterance] for utterance in utterances]]

    def carry_nothing(self) -> bool:
        """Whether no feature differs between utterances, as after per-utterance mean normalisation."""
        return len(self.values) > 1 and bool((self.values.std(dim=0) < NOTHING).all())


class PooledStore:
    """One upstream's pooled features on disk.

    Args:
        root: folder of all stores; this one is ``root/<upstream>-<key>``.
        identity: what the features are computed from.
    """

    def __init__(self, root: Path, identity: FeatureIdentity):
        self.identity = identity
        entry = hub_index().get(identity.upstream)
        self.made_from = {**identity.described(), "code": code_of(OWN_CODE if entry and entry.own else CODE, WITHIN)}
        self.folder = root / f"{identity.upstream.replace('/', '_')}-{digest(self.made_from)[:16]}"
        self._places: dict[str, tuple[Path, int]] = {}
        self._scanned: set[Path] = set()

    def missing(self, utterances: Sequence[Utterance], hashes: dict[str, str]) -> list[Utterance]:
        """The utterances whose audio has no features here; each audio content once."""
        self._scan()
        wanted: dict[str, Utterance] = {}
        for utterance in utterances:
            if hashes[utterance.id] not in self._places:
                wanted.setdefault(hashes[utterance.id], utterance)
        return list(wanted.values())

    def make(
        self,
        utterances: Sequence[Utterance],
        hashes: dict[str, str],
        pool: Callable[[list[torch.Tensor], list[Utterance]], list[torch.Tensor]],
        batch_size: int = 1,
    ) -> int:
        """Compute what is missing, with a progress bar.

        Args:
            pool: waveforms, each float32 [n] at 16 kHz, and their utterances -> pooled features, each [L, D].
            batch_size: the most utterances in one call of ``pool``; none of them is much longer than another.

        Returns:
            How many utterances were computed.

        Raises:
            UserError: audio that cannot be read or features that are not finite; every such file is named.
                Features computed before are kept.
        """
        with held(self.folder / ".lock", f"feature store {self.folder.name}", wait=PATIENCE):
            clear_leftovers(self.folder)
            # the longest first: memory is asked for once and used again, and too little of it shows at once
            todo = sorted(self.missing(utterances, hashes), key=lambda u: (-u.seconds, u.id))
            shard: list[tuple[str, torch.Tensor]] = []
            failed: list[str] = []
            with tqdm(
                total=len(todo), desc=f"{self.identity.upstream} features", unit="utt", dynamic_ncols=True
            ) as bar:
                with prefetched(_waveform, todo, ahead=batch_size) as decoded:
                    for size in _batch_sizes([utterance.seconds for utterance in todo], batch_size):
                        batch = list(itertools.islice(decoded, size))
                        for utterance, pooled in self._pool(batch, pool, failed):
                            shard.append((hashes[utterance.id], pooled))
                        bar.update(len(batch))
                        if len(shard) >= SHARD_SIZE:
                            self._write(shard)
                            shard = []
                if shard:
                    self._write(shard)
            if failed:
                shown = "\n  ".join(failed[:10])
                more = f"\n  and {len(failed) - 10} more" if len(failed) > 10 else ""
                raise UserError(
                    f"{len(failed)} of {len(todo)} audio files have no features:\n  {shown}{more}\n"
                    "Fix or remove them (and their ratings); `metaperser validate` lists them all."
                )
            return len(todo)

    def load(self, utterances: Sequence[Utterance], hashes: dict[str, str]) -> PooledFeatures:
        """Features of these utterances, as float32.

        Raises:
            UserError: a shard cannot be read.
            KeyError: features are missing; call :meth:`make` first.
        """
        self._scan()
        by_shard: dict[Path, list[tuple[int, int]]] = {}
        for row, utterance in enumerate(utterances):
            path, place = self._places[hashes[utterance.id]]
            by_shard.setdefault(path, []).append((row, place))
        values: torch.Tensor | None = None
        for path, places in by_shard.items():
            stored = read_tensors(path, AGAIN)["features"].float()
            if values is None:
                values = torch.empty(len(utterances), *stored.shape[1:])
            rows, sources = zip(*places, strict=True)
            values[list(rows)] = stored[list(sources)]
        assert values is not None, "no utterances were asked for"
        return PooledFeatures({u.id: row for row, u in enumerate(utterances)}, values)

    def _pool(self, batch, pool, failed):
        """Utterances with their pooled features; failures are added to ``failed``."""
        waves, readable = [], []
        for utterance, wave in batch:
            if isinstance(wave, UserError):
                failed.append(str(wave))
            else:
                waves.append(wave)
                readable.append(utterance)
        if not readable:
            return
        for utterance, pooled in zip(readable, pool(waves, readable), strict=True):
            if torch.isfinite(pooled).all():
                yield utterance, pooled
            else:
                failed.append(f"{utterance.path}: {self.identity.upstream} returned NaN or infinity")

    def _write(self, shard: list[tuple[str, torch.Tensor]]) -> None:
        audio = [key for key, _ in shard]
        values = torch.stack([pooled for _, pooled in shard]).to(getattr(torch, self.identity.dtype)).contiguous()
        name = hashlib.sha256("".join(audio).encode()).hexdigest()[:16]
        said = {"identity": json.dumps(self.made_from, sort_keys=True), "audio": json.dumps(audio)}
        write_tensors(self.folder / f"shard-{name}.safetensors", {"features": values}, said)
        self._scan()

    def _scan(self) -> None:
        for path in sorted(self.folder.glob("shard-*.safetensors")):
            if path in self._scanned:
                continue
            for place, audio in enumerate(self._audio_of(path)):
                self._places.setdefault(audio, (path, place))
            self._scanned.add(path)

    def _audio_of(self, path: Path) -> list[str]:
        """The audio hashes of a shard's rows, in their order."""
        said, shapes = read_said(path, AGAIN)
        identity, audio = _listed(said, "identity"), _listed(said, "audio")
        if (
            not isinstance(identity, dict)
            or not isinstance(audio, list)
            or [len(audio)] != [shape[0] for shape in shapes.values()]
        ):
            raise UserError(f"{path} does not record what it was made from. {AGAIN}")
        if identity != self.made_from:
            raise refuse(str(path), identity, self.made_from, "Move it out of this folder.")
        return audio


def _listed(said: dict[str, str], name: str) -> Any:
    try:
        return parse_json(said[name])
    except (KeyError, ValueError):
        return None


def _batch_sizes(seconds: Sequence[float], most: int) -> Iterator[int]:
    """How many of the utterances that follow make one batch, for utterances from the longest to the shortest."""
    start = 0
    while start < len(seconds):
        end = start + 1
        while end < min(start + most, len(seconds)) and seconds[end] * PADDING >= seconds[start]:
            end += 1
        yield end - start
        start = end


def _waveform(utterance: Utterance) -> torch.Tensor:
    return torch.from_numpy(load_audio(utterance.path))
