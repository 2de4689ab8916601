"""What adapts: the head on a frozen upstream's pooled features, or (``-f``) the whole model on waveforms.

Either way a run needs the upstream's identity, inputs by row, and a way to read another file; all other code is
shared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from s3prl_metaperser.config.options import Options, TuningOptions
from s3prl_metaperser.corpora.audio import RATE, load_audio
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import Inputs, new_head
from s3prl_metaperser.methods.facts import Scope as ScopeName
from s3prl_metaperser.methods.start import Start
from s3prl_metaperser.methods.task import pooled
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.run.workspace import Prepared, Workspace, check_layer, say
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash, checkpoint_urls, removes_the_mean
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.hubconf import GIVEN
from s3prl_metaperser.upstream.inputs import PooledInputs, Waveforms, WaveInputs
from s3prl_metaperser.upstream.memory import explaining_memory
from s3prl_metaperser.upstream.pooling import pooled_size
from s3prl_metaperser.upstream.store import FeatureIdentity

#: Makes the upstream, once.
Build = Callable[[], nn.Module]
#: Seconds; enough for a frame of any upstream.
SHORTEST_CROP = 0.1


@dataclass(frozen=True)
class Scope:
    """One workspace under one upstream.

    Attributes:
        name: ``frozen`` or ``finetuned``.
        prepared: inputs by row.
        inputs: from waveforms to model inputs, for audio outside the corpus.
        model: upstream and head, where the upstream is fine-tuned.
    """

    name: ScopeName
    identity: FeatureIdentity
    prepared: Prepared
    inputs: PooledInputs | WaveInputs
    model: FineTunedModel | None = None

    def read(self, path: Path) -> Inputs:
        """The inputs of one audio file, equal to ``prepared.values[[row]]`` of a row with the same audio."""
        return self.inputs.together(self.inputs.each([torch.from_numpy(load_audio(path))]))


def open_scope(
    cell: CellOptions,
    options: Options,
    workspace: Workspace,
    known: tuple[FeatureIdentity, Build] | None = None,
    start: Start | None = None,
) -> Scope:
    """The scope that ``-f`` chooses.

    Args:
        known: what :func:`identify` says of the cell, where it was asked already.
        start: a model to start from, whose features are prepared as they were for it.

    Raises:
        UserError: the upstream, its weights or its features are unavailable, or it has nothing to fine-tune.
    """
    identity, build = identify(cell, options) if known is None else known
    if cell.upstream.finetuned:
        scope = _finetuned(cell, options, workspace, identity, build)
    else:
        scope = _frozen(cell, workspace, identity, build, start)
    if start is not None:
        layers, size = scope.prepared.mean.shape
        start.check_shape(layers, size)
    return scope


def identify(cell: CellOptions, options: Options) -> tuple[FeatureIdentity, Build]:
    """Which upstream a cell has, and what makes it; no corpus is needed for this.

    Raises:
        UserError: its weights cannot be had, or it cannot be fine-tuned in this way.
    """
    given = cell.upstream
    if given.finetuned:
        _check_finetuning(options, cell)
    build = functools.cache(lambda: _build(cell))
    if given.refresh:
        build()  # downloads anew, so that the hash is of what will be used
    identity = FeatureIdentity(
        upstream=given.name,
        checkpoint=checkpoint_hash(given.name, ckpt=given.checkpoint, model_config=given.model_config),
        selection=given.selection,
        normalize=given.normalize and given.layer is None,  # as in s3prl
        dtype=options.downstream_expert.modelrc.feature_dtype,
        precision="bfloat16" if options.downstream_expert.modelrc.bf16 else "float32",
        pooling=options.downstream_expert.modelrc.pooling,
    )
    if identity.pooling != "mean" and given.name in GIVEN:
        raise UserError(
            f"modelrc.pooling: {identity.pooling} needs frames, and -u {given.name} has one vector for each recording. "
            "Leave it at mean."
        )
    return identity, build


def _build(cell: CellOptions) -> nn.Module:
    return build_upstream(
        cell.upstream.name,
        ckpt=cell.upstream.checkpoint,
        model_config=cell.upstream.model_config,
        refresh=cell.upstream.refresh,
        device=cell.device,
    )


def _has_weights(upstream: UpstreamOptions) -> bool:
    return bool(upstream.checkpoint or checkpoint_urls(upstream.name))


def _frozen(
    cell: CellOptions, workspace: Workspace, identity: FeatureIdentity, build: Build, start: Start | None
) -> Scope:
    """Pooled features from the store; what is missing is made, and only then is the upstream loaded."""
    if workspace.features_exist(identity):
        say(f"features of {cell.upstream.name} exist; the upstream is not loaded")
    features = workspace.features(identity, build)
    removed = identity.pooling == "mean" and removes_the_mean(cell.upstream.name, cell.upstream.model_config)
    if features.carry_nothing() or removed:
        say(
            f"WARNING: the pooled features of {cell.upstream.name} carry no information: this upstream normalises "
            "each utterance to zero mean over time, which leaves nothing after mean pooling. "
            "Use -u fbank_no_cmvn instead."
        )
    layer = cell.upstream.layer
    prepared = workspace.prepare(features, learned=_has_weights(cell.upstream), layer=layer, start=start)
    if start is not None and start.clamp:
        values = pooled(prepared.values)
        cut = int((values.abs() > start.clamp).sum())
        say(
            f"features are standardised as the start's were; {cut} of {values.numel()} z-scores lie beyond "
            f"{start.clamp:g}, where it cut them off (modelrc.clamp), and are left as they are"
        )
    elif prepared.standardized:
        say("pooled features are standardised with the training split's statistics (modelrc.standardize)")

    inputs = PooledInputs(build, identity, layer, prepared.mean, prepared.scale, cell.device)
    return Scope("frozen", identity, prepared, inputs)


def _finetuned(
    cell: CellOptions, options: Options, workspace: Workspace, identity: FeatureIdentity, build: Build
) -> Scope:
    """Waveforms, and upstream and head as one model."""
    tunerc, layer = options.downstream_expert.tunerc, cell.upstream.layer
    with explaining_memory(
        f"Loading {cell.upstream.name}",
        f"{cell.device} has too little free memory: use another, or a smaller upstream.",
    ):
        upstream = build()
        layers, size = shape_of(upstream, identity.selection, cell.device)
    check_layer(layer, layers)
    shape = (layers if layer is None else 1, pooled_size(size, identity.pooling))
    head = new_head(options, *shape, len(workspace.corpus.classes), "consensus", workspace.training_seed(cell.seed))
    head = head.to(cell.device)
    how = (identity.selection, layer, identity.normalize, identity.pooling)
    model = FineTunedModel(upstream, head, tunerc, *how)
    adapted = model.named_adapted()
    numbers = sum(p.numel() for p in adapted.values())
    say(
        f"{cell.upstream.name} is fine-tuned: {numbers:,} parameters in {len(adapted)} tensors "
        f"adapt (tunerc.adapt: {tunerc.adapt}) of {sum(p.numel() for p in model.parameters()):,} in total"
    )
    waves = Waveforms(workspace.utterances, tunerc.longest_seconds, shape, cell.device)
    if waves.cropped:
        say(f"{waves.cropped} utterance(s) are longer than {tunerc.longest_seconds} s and are cropped")
    rows = {u.id: row for row, u in enumerate(workspace.utterances)}
    prepared = Prepared(waves, rows, torch.zeros(shape), torch.ones(shape), standardized=False)
    return Scope("finetuned", identity, prepared, WaveInputs(tunerc.longest_seconds, cell.device), model)


def _check_finetuning(options: Options, cell: CellOptions) -> None:
    if not _has_weights(cell.upstream) or cell.upstream.name in GIVEN:
        raise UserError(
            f"-u {cell.upstream.name} has no learned weights to fine-tune. Remove -f, or use e.g. -u wavlm_base."
        )
    if options.downstream_expert.modelrc.standardize is True:
        raise UserError("modelrc.standardize: true needs a frozen upstream. Remove -f, or set it to auto.")
    _check_tuning(options.downstream_expert.tunerc, cell)


def _check_tuning(tunerc: TuningOptions, cell: CellOptions) -> None:
    if tunerc.longest_seconds < SHORTEST_CROP:
        raise UserError(
            f"Bad value {tunerc.longest_seconds} for tunerc.longest_seconds, expected at least {SHORTEST_CROP} "
            "(seconds; longer utterances are cropped)."
        )
    if tunerc.bf16 and not cell.device.startswith("cuda"):
        if cell.trains:
            raise UserError("tunerc.bf16: true requires a GPU; a CPU computes in float32. Remove it.")
        say("tunerc.bf16 is ignored: on a CPU everything is computed in float32")


def shape_of(upstream: nn.Module, selection: str, device: str) -> tuple[int, int]:
    """(L, D) of the upstream's selected features."""
    with torch.no_grad():
        (states,) = hidden_states(upstream.eval(), [torch.zeros(RATE, device=device)], selection)
    return states.shape[0], states.shape[2]
