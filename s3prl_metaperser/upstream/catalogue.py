"""What may be known of each upstream of the hub before anything is loaded, in the order in which one would try them."""

from __future__ import annotations

from dataclasses import dataclass

from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.s3prl_stack.hub_index import checkpoint_urls, hub_index, load_upstream_config
from s3prl_metaperser.upstream.hubconf import GIVEN
from s3prl_metaperser.upstream.memory_plan import shape_of

#: Beginning of a name -> what its publishers say of its weights.
LICENCES = (
    ("wavlm", "WavLM's weights are Microsoft's: see https://github.com/microsoft/unilm/tree/master/wavlm"),
    ("hubert", "HuBERT's weights are Meta's, MIT like fairseq: see https://github.com/facebookresearch/fairseq"),
    ("wav2vec2", "wav2vec 2.0's weights are Meta's, MIT like fairseq: see https://github.com/facebookresearch/fairseq"),
)
#: Without learned weights, by the beginning of the name.
_COMPUTED = ("fbank", "logmel", "mfcc", "mel", "spectrogram", "linear", "stft")
_EXAMPLES = ("customized_upstream", "baseline", "baseline_local")
#: The groups, in order, and where their weights come from.
GROUPS = (
    ("computed", "no weights"),
    ("most used", "downloaded on first use"),
    ("a file of yours", "-k FILE"),
    ("published", "downloaded on first use"),
)


@dataclass(frozen=True)
class Known:
    """One upstream.

    Attributes:
        group: one of :data:`GROUPS`.
        millions: of parameters, from what its name or ``upstream_configs`` says; None where that is not known.
        weights: where they come from: nothing, the network, a file.
        summary: a sentence, where there is one.
        licence: of the weights; empty where nothing is known.
    """

    name: str
    group: str
    millions: int | None
    weights: str
    summary: str
    licence: str


def catalogue(part: str = "") -> list[Known]:
    """The upstreams whose name or group has ``part`` in it, sorted by use.

    Raises:
        UserError: there is none.
    """
    everyone = [_known(name) for name in hub_index()]
    order = [group for group, _ in GROUPS]
    wanted = part.lower()
    matching = (known for known in everyone if wanted in f"{known.name} {known.group}".lower())
    found = sorted(matching, key=lambda known: (order.index(known.group), not known.summary, known.millions is None))
    if not found:
        raise unknown_name("upstream", part, hub_index(), "metaperser list upstreams")
    return found


def licence_of(name: str) -> str:
    """What is known of the licence of an upstream's weights; empty where nothing is."""
    return next((note for beginning, note in LICENCES if name.startswith(beginning)), "")


def _known(name: str) -> Known:
    entry, pinned = hub_index()[name], load_upstream_config(name)
    computed = name.startswith(_COMPUTED) or name in _EXAMPLES
    if computed:
        group = 0
    elif entry.needs:
        group = 2
    else:
        group = 1 if pinned else 3
    title, weights = GROUPS[group]
    if group == 2 and name.endswith("_url"):
        weights = "-k ADDRESS"
    elif entry.needs == "model_config":
        weights = "no weights; -g FILE"
    elif group == 3 and not checkpoint_urls(name):
        weights = "downloaded by a package of its own"
    return Known(name, title, _millions(name), weights, _summary(name, entry.summary), licence_of(name))


def _summary(name: str, own: str) -> str:
    pinned = load_upstream_config(name)
    return pinned.notes if pinned else own


def _millions(name: str) -> int | None:
    if name in GIVEN:
        return None
    try:
        return round(shape_of(name).total / 1e6)
    except UserError:
        return None
