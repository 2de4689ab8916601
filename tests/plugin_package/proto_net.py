"""ProtoNet: a listener's class prototypes in the shared embedding (Snell et al. 2017, Prototypical Networks).

Another package's system, whole: this file and one entry point. The embedding is that of the shared initialisation
(SSL-E with ``-f``), not trained in episodes. Labels being soft, a prototype is the mean of all K embeddings, each
weighted by the share that the listener gave the class; smoothing leaves no class without weight.
"""

import torch

from s3prl_metaperser.methods.base import System
from s3prl_metaperser.methods.facts import INITIALISATION, Facts

PROTOTYPES = "prototypes"


class ProtoNet(System):
    """Softmax over classes of the negative squared Euclidean distances to the prototypes (Snell et al., eq. 2)."""

    facts = Facts(
        "class prototypes of the K samples (Snell et al. 2017)",
        uses=INITIALISATION,
        initialised=True,
        colour="#6b8e23",
    )

    def adapt(self, state, support):
        parameters = self.unadapted(state)
        hidden = self.embed(state, parameters, support.features)
        return {**parameters, PROTOTYPES: prototypes(hidden, support.targets)}

    def predict(self, state, predictor, query):
        if PROTOTYPES not in predictor:  # before any sample is seen
            return super().predict(state, predictor, query)
        return nearness(self.embed(state, predictor, query), predictor[PROTOTYPES]).cpu().numpy()


def prototypes(hidden, targets):
    """Embeddings [K, H] and label distributions [K, C] to prototypes [C, H] (Snell et al., eq. 1, weighted)."""
    return (targets.T @ hidden) / targets.sum(0)[:, None]


def nearness(hidden, centres):
    """Embeddings [Q, H] and prototypes [C, H] to probabilities [Q, C]."""
    return torch.softmax(-(hidden[:, None] - centres).square().sum(-1), dim=-1)
