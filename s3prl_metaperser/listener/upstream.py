"""The upstream that a card names, from a file, a download in the cache or the network; any other is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.card import Card
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash, checkpoint_urls
from s3prl_metaperser.s3prl_stack.hub_index import check_upstream, hub_index, s3prl_version
from s3prl_metaperser.s3prl_stack.weights_files import local_name
from s3prl_metaperser.upstream.hubconf import GIVEN

if TYPE_CHECKING:
    from torch import nn


def find_upstream(
    card: Card, where: str, ckpt: str | None = None, model_config: str | None = None, device: str = "cpu"
) -> Callable[[], nn.Module]:
    """What builds the upstream, in evaluation mode, with the weights that the model was trained with.

    Args:
        card: the whole card.
        where: names the card in errors.
        ckpt: ``-k``, its weights; needed where s3prl's hub would not download them by itself.
        model_config: ``-g``, its configuration, for the upstreams that need one.
        device: where to build it.

    Raises:
        UserError: weights are missing, cannot be obtained, or are not those of the card; or it hears no audio.
    """
    wanted, name = card.upstream, card.upstream.name
    check_upstream(name)
    if name in GIVEN:
        raise UserError(
            f"{where} was trained on -u {name}, which hears no audio: it can predict no clip. Train on the upstream "
            "that computed the vectors, and export that."
        )
    entry, of = hub_index()[name], ", ".join(wanted.source) or "no file"
    if entry.needs == "ckpt" and not ckpt:
        raise UserError(f"{where} needs the weights of its upstream {name} ({of}): add -k FILE.")
    if ckpt and entry.needs != "ckpt":
        local = local_name(name) if checkpoint_urls(name) else None
        if local is None:
            raise UserError(f"{where}: its upstream {name} takes no checkpoint file. Leave out -k {ckpt}.")
        name = local
    found = checkpoint_hash(name, ckpt=ckpt, model_config=model_config)
    if found != wanted.checkpoint:
        weights = bool(checkpoint_urls(name) or ckpt)
        hint = (
            f"Give the weights that it was trained with ({of})."
            if weights
            else f"Settings of {name} come with s3prl: it was trained with s3prl {card.versions.get('s3prl')}, "
            f"here is {s3prl_version()}."
        )
        raise UserError(f"{where} was trained with upstream weights {wanted.checkpoint}, these are {found}. {hint}")
    return lambda: build_upstream(name, ckpt=ckpt, model_config=model_config, device=device).eval()
