"""What the commands for one listener share."""

from __future__ import annotations

import argparse

import torch

from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer


def load(arguments: argparse.Namespace, *, adapted: bool = True) -> PersonalizedEmotionRecognizer:
    """The recogniser that :func:`.commands.common.add_model`'s arguments name.

    Args:
        adapted: whether it may be adapted already.

    Raises:
        UserError: it cannot be loaded, or is a listener where a model is needed.
    """

    torch.set_num_threads(arguments.threads)
    recognizer = PersonalizedEmotionRecognizer.load(
        arguments.model,
        upstream_ckpt=arguments.upstream_ckpt,
        upstream_model_config=arguments.upstream_model_config,
        device=arguments.device,
    )
    if not adapted:
        recognizer.check_unadapted()
    return recognizer
