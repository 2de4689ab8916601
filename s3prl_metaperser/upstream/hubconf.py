"""This project's own upstreams, a function a name. :mod:`.s3prl_stack.hub_index` reads them without importing this."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

#: Upstreams whose features are looked up by name: no audio is heard, and there is nothing to keep or to fine-tune.
GIVEN = ("embeddings",)


def whisper_local(ckpt: str, model_config: str | None = None, **_: object) -> nn.Module:
    """Whisper's encoder: -k FILE or FOLDER of OpenAI, Hugging Face or CTranslate2; -g FILE with pad: true"""
    from s3prl_metaperser.upstream.whisper import expert

    return expert(ckpt, model_config)


def emotion2vec_local(ckpt: str, **_: object) -> nn.Module:
    """emotion2vec and emotion2vec+: -k FILE or FOLDER of fairseq or FunASR; all hidden states, no fairseq needed"""
    from s3prl_metaperser.upstream.emotion2vec import expert

    return expert(ckpt)


def embeddings(ckpt: str, model_config: str | None = None, **_: object) -> nn.Module:
    """Vectors that are computed already: -k FILE.npz with names [N] and values [N, D] or [N, L, D]"""
    from s3prl_metaperser.upstream.embeddings import expert

    return expert(ckpt, model_config)


def logmel(model_config: str | None = None, **_: object) -> nn.Module:
    """64 log-mel bands of 25 ms every 10 ms, not normalised; -g FILE with window: hamming"""
    from s3prl_metaperser.upstream.logmel import expert

    return expert(model_config)


def logmel_resnet18(ckpt: str, model_config: str | None = None, **_: object) -> nn.Module:
    """The trunk of a ResNet18 of domain generalisation: -k EXPDIR/dev-best.ckpt; -g FILE as in its training"""
    from s3prl_metaperser.upstream.trunk import expert

    return expert(ckpt, model_config)
