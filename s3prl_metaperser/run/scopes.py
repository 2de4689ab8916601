"""What adapts: the head on a frozen upstream's pooled features, or (``-f``) the whole model on waveforms.

Either way a run needs an upstream's identity, inputs by row, and a way to read one more file; the rest of the program
is the same for both.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from s3prl_metaperser.config.options import Options, TuningOptions
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods.base import Inputs, new_head
from s3prl_metaperser.run.workspace import Prepared, Workspace, say
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash, checkpoint_urls, removes_the_mean
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.inputs import PooledInputs, WaveInputs
from s3prl_metaperser.upstream.memory import explaining_memory
from s3prl_metaperser.upstream.store import FeatureIdentity
from s3prl_metaperser.upstream.waveforms import RATE, Waveforms

#: Seconds; enough for a frame of any upstream.
SHORTEST_CROP = 0.1


@dataclass(frozen=True)
class Scope:
    """One workspace under one upstream.

    Attributes:
        name: ``frozen`` or ``finetuned``.
        identity: which upstream and checkpoint it is.
        prepared: inputs by row.
        read: the inputs of one audio file, as ``prepared.values[[row]]`` gives them for a row.
        rate: samples in one frame of the upstream; 0 where the upstream was not needed.
        model: upstream and head, where the upstream is fine-tuned.
    """

    name: str
    identity: FeatureIdentity
    prepared: Prepared
    read: Callable[[Path], Inputs]
    rate: int = 0
    model: FineTunedModel | None = None


def open_scope(args: argparse.Namespace, options: Options, workspace: Workspace) -> Scope:
    """The scope that ``-f`` chooses.

    Args:
        args: the launcher's arguments.

    Raises:
        UserError: the upstream, its weights or its features cannot be had, or nothing of it can be fine-tuned.
    """
    build = functools.cache(lambda: _build(args))
    if args.upstream_refresh:
        build()  # downloads anew, so that the hash is of what will be used
    identity = FeatureIdentity(
        upstream=args.upstream,
        checkpoint=checkpoint_hash(args.upstream, ckpt=args.upstream_ckpt, model_config=args.upstream_model_config),
        selection=args.upstream_feature_selection,
        normalize=args.upstream_feature_normalize and args.upstream_layer_selection is None,  # as in s3prl
        dtype=options.downstream_expert.modelrc.feature_dtype,
        precision="bfloat16" if options.downstream_expert.modelrc.bf16 else "float32",
    )
    return (_finetuned if args.upstream_trainable else _frozen)(args, options, workspace, identity, build)


def _build(args: argparse.Namespace) -> nn.Module:
    return build_upstream(
        args.upstream,
        ckpt=args.upstream_ckpt,
        model_config=args.upstream_model_config,
        refresh=args.upstream_refresh,
        device=args.device,
    )


def _has_weights(args: argparse.Namespace) -> bool:
    return bool(args.upstream_ckpt or checkpoint_urls(args.upstream))


def _frozen(args, options: Options, workspace: Workspace, identity: FeatureIdentity, build) -> Scope:
    """Pooled features from the store; what is missing is made, and only then is the upstream loaded."""
    needed = not workspace.features_exist(identity)
    if not needed:
        say(f"features of {args.upstream} exist; the upstream is not loaded")
    features = workspace.features(identity, build)
    if features.carry_nothing() or removes_the_mean(args.upstream, args.upstream_model_config):
        say(
            f"WARNING: the pooled features of {args.upstream} carry nothing: this upstream normalises each "
            "utterance to zero mean over time, so that nothing of it is left after mean pooling. "
            "Use -u fbank_no_cmvn instead."
        )
    layer = args.upstream_layer_selection
    prepared = workspace.prepare(features, learned=_has_weights(args), layer=layer)
    if prepared.standardized:
        say("pooled features are standardised with the training split's statistics (modelrc.standardize)")

    inputs = PooledInputs(build, identity, layer, prepared.mean, prepared.scale, args.device)

    def read(path: Path) -> torch.Tensor:
        return inputs.together(inputs.each([torch.from_numpy(load_audio(path))]))

    rate = build().get_downsample_rates(identity.selection) if needed else 0
    return Scope("frozen", identity, prepared, read, rate)


def _finetuned(args, options: Options, workspace: Workspace, identity: FeatureIdentity, build) -> Scope:
    """Waveforms, and upstream and head as one model."""
    if not _has_weights(args):
        raise UserError(
            f"-u {args.upstream} has no learned weights to fine-tune. Leave out -f, or take e.g. wavlm_base."
        )
    if options.downstream_expert.modelrc.standardize is True:
        raise UserError("modelrc.standardize: true needs a frozen upstream. Leave out -f, or set it to auto.")
    tunerc, layer = options.downstream_expert.tunerc, args.upstream_layer_selection
    _check_tuning(tunerc, args)
    with explaining_memory(
        f"Loading {args.upstream}", f"{args.device} has too little free: use another, or a smaller upstream."
    ):
        upstream = build()
        layers, size = _shape(upstream, identity.selection, args.device)
    if layer is not None and not -layers <= layer < layers:
        raise UserError(f"Layer {layer} (-l) does not exist: the upstream has layers 0 to {layers - 1}.")
    shape = (layers if layer is None else 1, size)
    head = new_head(options, *shape, len(workspace.corpus.classes), "consensus", workspace.training_seed(args.seed))
    head = head.to(args.device)
    model = FineTunedModel(upstream, head, tunerc, identity.selection, layer, identity.normalize)
    adapted = model.named_adapted()
    say(
        f"{args.upstream} is fine-tuned: {sum(p.numel() for p in adapted.values()):,} parameters in {len(adapted)} "
        f"tensors adapt (tunerc.adapt: {tunerc.adapt}), {sum(p.numel() for p in model.parameters()):,} in all"
    )
    waves = Waveforms(workspace.utterances, tunerc.longest_seconds, shape, args.device)
    if waves.cropped:
        say(f"{waves.cropped} utterance(s) are longer than {tunerc.longest_seconds} s and are cropped to that")
    rows = {u.id: row for row, u in enumerate(workspace.utterances)}
    prepared = Prepared(waves, rows, torch.zeros(shape), torch.ones(shape), standardized=False)

    inputs = WaveInputs(tunerc.longest_seconds, args.device)

    def read(path: Path) -> list[torch.Tensor]:
        return inputs.together(inputs.each([torch.from_numpy(load_audio(path))]))

    return Scope("finetuned", identity, prepared, read, upstream.get_downsample_rates(identity.selection), model)


def _check_tuning(tunerc: TuningOptions, args: argparse.Namespace) -> None:
    if tunerc.longest_seconds < SHORTEST_CROP:
        raise UserError(
            f"Bad value {tunerc.longest_seconds} for tunerc.longest_seconds, to which utterances are cropped: expected "
            f"at least {SHORTEST_CROP} (seconds)."
        )
    if tunerc.bf16 and not args.device.startswith("cuda"):
        if args.mode == "train":
            raise UserError("tunerc.bf16: true is for a GPU: on a CPU all is computed in float32. Leave it out.")
        say("tunerc.bf16 is for a GPU: on this CPU all is computed in float32")


def _shape(upstream: nn.Module, selection: str, device: str) -> tuple[int, int]:
    """(L, D) of the upstream's selected features."""
    with torch.no_grad():
        (states,) = hidden_states(upstream.eval(), [torch.zeros(RATE, device=device)], selection)
    return states.shape[0], states.shape[2]
