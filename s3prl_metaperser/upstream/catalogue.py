"""What may be known of each upstream of the hub before anything is loaded, in the order in which one would try them."""

from __future__ import annotations

from dataclasses import dataclass

from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.s3prl_stack.hub_index import checkpoint_urls, hub_index, load_upstream_config
from s3prl_metaperser.upstream.hubconf import GIVEN
from s3prl_metaperser.upstream.licences import Licence, licence_of
from s3prl_metaperser.upstream.memory_plan import shape_of

#: Without learned weights, by the beginning of the name.
_COMPUTED = ("fbank", "logmel", "mfcc", "mel", "spectrogram", "linear", "stft")
_EXAMPLES = ("customized_upstream", "baseline", "baseline_local")
#: Millions of parameters, of those whose shape :func:`shape_of` does not know: Table 1 of SUPERB (Yang et al., 2021),
#: and the papers of those that came later.
_MILLIONS = {
    4: ("apc", "apc_360hr", "apc_960hr"),
    5: ("vq_apc", "vq_apc_360hr", "vq_apc_960hr"),
    8: ("pase_plus",),
    19: ("npc", "npc_360hr", "npc_960hr"),
    2: ("modified_cpc",),
    21: ("tera", "tera_100hr", "tera_960hr"),
    23: ("distilhubert", "distilhubert_base"),
    33: ("wav2vec", "wav2vec_large"),
    34: ("vq_wav2vec", "vq_wav2vec_gumbel", "vq_wav2vec_kmeans"),
    85: ("mockingjay", "mockingjay_origin"),
    90: ("decoar2",),
    94: ("data2vec", "data2vec_base_960"),
    95: ("unispeech_sat", "unispeech_sat_base", "unispeech_sat_base_plus", "contentvec"),
    314: ("data2vec_large_ll60k",),
    317: ("xlsr_53", "xls_r_300m", "unispeech_sat_large"),
    965: ("xls_r_1b",),
    2162: ("xls_r_2b",),
}
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
        millions: of parameters, from what its name, ``upstream_configs`` or a paper says; None where that is not known.
        weights: where they come from: nothing, the network, a file.
        summary: a sentence, where there is one.
        licence: of the weights; None where nothing is known, there are none, or they are the user's.
    """

    name: str
    group: str
    millions: int | None
    weights: str
    summary: str
    licence: Licence | None


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
    licence = None if computed or (group == 2 and not entry.summary) else licence_of(name)
    return Known(name, title, _millions(name), weights, _summary(name, entry.summary), licence)


def _summary(name: str, own: str) -> str:
    pinned = load_upstream_config(name)
    return pinned.notes if pinned else own


def _millions(name: str) -> int | None:
    if name in GIVEN:
        return None
    try:
        return round(shape_of(name).total / 1e6)
    except UserError:
        return next((size for size, names in _MILLIONS.items() if name in names), None)
