"""The second task's model as a start of the first one's systems: ``metarc.initialisation: EXPDIR``.

What is carried: layer weights and projector (with ``-f`` the upstream, too), the classifier's rows of classes of one
name, and how features are standardised. Of a ResNet18 the trunk is an upstream (:mod:`.upstream.trunk`), its embedding
passes the projector as it is, and its classifier's rows follow. docs/domain_generalisation.md has the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise import GENERALISERS
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.methods.start import Start
from s3prl_metaperser.methods.state import packed_hash
from s3prl_metaperser.run.experiment import BEST
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_stack.hub import checkpoint_hash
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.hashing import file_hash
from s3prl_metaperser.storage.paths import user_path
from s3prl_metaperser.tasks.domain_generalized_emotion import NAME
from s3prl_metaperser.upstream.hubconf import GIVEN
from s3prl_metaperser.upstream.store import FeatureIdentity
from s3prl_metaperser.upstream.trunk import tested_network

#: What of an upstream's identity has to be as it was.
_ALIKE = {"selection": "-s", "normalize": "--upstream_feature_normalize", "pooling": "modelrc.pooling"}
_TRUNK = "logmel_resnet18"


def start_of(cell: CellOptions, options: Options, identity: FeatureIdentity) -> Start | None:
    """The start that the options name; None where they name none.

    Raises:
        UserError: there is no such model, the system begins otherwise, or the model does not fit upstream and options.
    """
    given = options.downstream_expert.metarc.initialisation
    if not isinstance(given, str):
        return None
    if facts_of(cell.system).start(options.as_config()) is None:
        raise UserError(
            f"metarc.initialisation: {given} is a start, and {cell.system} begins without one. Leave it out, or take "
            "a system that starts from the initialisation, such as the default one."
        )
    path = _checkpoint(given)
    found = _Found(path, read_checkpoint(path), cell, options, identity)
    return found.start()


def refuse_heard(source: Path, heard: Collection[str], workspace: Workspace) -> None:
    """Refuse what has learned from recordings that are tested, whoever else rated them: what it learned of them are
    labels of all their raters, those tested among them.

    Args:
        source: the checkpoint that has learned.
        heard: as :attr:`.Start.audio`.

    Raises:
        UserError: it has heard some.
    """
    split, allowed = workspace.split, workspace.options.downstream_expert.datarc.equal_audio == "allow"
    tested = {rating.utterance for rating in split.test}
    known = sorted(utterance for utterance in tested if workspace.audio_hashes[utterance][:16] in heard)
    if known and not allowed:
        raise UserError(
            f"{source} has learned from {len(known)} recording(s) that the scenario {split.scenario} tests "
            f"({', '.join(known[:3])}). Take one that has not, or allow it: datarc.equal_audio: allow."
        )


def refuse_heard_upstream(upstream: UpstreamOptions, workspace: Workspace) -> None:
    """The same of an upstream that domain generalisation has trained; others do not say what they heard.

    Raises:
        UserError: as :func:`refuse_heard`.
    """
    if upstream.name == _TRUNK and upstream.checkpoint:
        path = user_path(upstream.checkpoint)
        refuse_heard(path, _heard(read_checkpoint(path)), workspace)


def _heard(content: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(content["MadeFrom"]["audio"].values())


def _checkpoint(given: str) -> Path:
    path = user_path(given)
    best = path / BEST if path.is_dir() else path
    if not best.is_file():
        why = f"the folder has no {BEST}" if path.is_dir() else "no such experiment folder"
        raise UserError(
            f"metarc.initialisation: {given}: {why}. Expected true, false, or the folder of an experiment with "
            f"-d {NAME}."
        )
    return best


@dataclasses.dataclass(frozen=True)
class _Found:
    """A checkpoint, and the cell that is to start from it."""

    path: Path
    content: Mapping[str, Any]
    cell: CellOptions
    options: Options
    identity: FeatureIdentity

    def start(self) -> Start:
        content, args = self.content, self.content["Args"]
        if getattr(args, "downstream", None) != NAME:
            self._refuse(f"is of -d {getattr(args, 'downstream', None)}; a start is an experiment with -d {NAME}.")
        facts = GENERALISERS.get(content["System"]).facts
        if facts is not None and not facts.learns:
            self._refuse(f"is of {content['System']}, which learns nothing. Take another system's.")
        if self.options.downstream_expert.modelrc.standardize != "auto":
            raise UserError("modelrc.standardize: features are standardised as the start's were. Leave it at auto.")
        model, tensors = content["Config"]["downstream_expert"]["modelrc"], tested_network(content)
        if model["network"] == "resnet18":
            start = self._resnet18(tensors)
        else:
            start = self._head(model, tensors)
        if (size := len(start.head["projector.bias"])) != self.options.downstream_expert.modelrc.projector_dim:
            self._refuse(f"has embeddings of {size} numbers. Set modelrc.projector_dim={size}.")
        return start

    def _resnet18(self, tensors: Mapping[str, Tensor]) -> Start:
        args, given, weight = self.content["Args"], self.cell.upstream, tensors["classifier.weight"]
        size = weight.shape[1]
        if args.upstream != "logmel":
            self._refuse(f"is a ResNet18 on -u {args.upstream}, which hears no audio here; only one on logmel can be.")
        if given.name != _TRUNK or file_hash(user_path(given.checkpoint or "")) != file_hash(self.path):
            self._refuse(f"is a ResNet18: use it with -u {_TRUNK} -k {self.path}, modelrc.projector_dim={size}.")
        if self.content["MadeFrom"]["upstream"]["checkpoint"] != checkpoint_hash("logmel", None, given.model_config):
            self._refuse("was trained on other log-mel frames. Give -g as it was given in training.")
        if self.identity.pooling != "mean":
            self._refuse("has its own mean over time. Leave modelrc.pooling at mean.")
        head = {
            "weights": torch.zeros(1),
            "projector.weight": torch.eye(size),
            "projector.bias": torch.zeros(size),
            "classifier.weight": weight,
            "classifier.bias": tensors["classifier.bias"],
        }
        return self._made(head)

    def _head(self, model: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Start:
        if model["network"] != "pooled":
            self._refuse(f"has the network {model['network']}, whose ReLU no head has here. Train it as pooled.")
        finetuned, here = self.content["Args"].upstream_trainable, self.cell.upstream.finetuned
        if finetuned and not here:
            self._refuse("has a fine-tuned upstream. Add -f.")
        self._check_upstream()
        if finetuned:
            head = {name.removeprefix("model.head."): value for name, value in tensors.items() if ".head." in name}
            mark = "model.upstream."
            upstream = {name.removeprefix(mark): value for name, value in tensors.items() if name.startswith(mark)}
            return self._made(head, upstream=upstream)
        statistics = model["statistics"]
        if statistics == "none":
            return self._made(tensors)
        if here:
            self._refuse(
                "goes by standardised features, which -f has not. Remove -f, or train it with modelrc.statistics: none."
            )
        if statistics == "speaker":
            self._refuse("goes by each speaker's own statistics, which no listener's clips have. Train it by source's.")
        if statistics == "corpus":
            return self._made(tensors, statistics="own", clamp=model["clamp"])
        by = self.content.get("Preprocessing") or {}
        if not by:
            self._refuse("does not say by which statistics its features were standardised. Train it again.")
        return self._made(tensors, statistics="given", mean=by["mean"], scale=by["scale"], clamp=model["clamp"])

    def _made(self, head: Mapping[str, Tensor], **further: Any) -> Start:
        content = self.content
        heard, classes = _heard(content), tuple(content["Classes"])
        return Start(self.path, packed_hash(dict(content)), classes, head, audio=heard, **further)

    def _check_upstream(self) -> None:
        made, here, args = self.content["MadeFrom"]["upstream"], self.identity, self.content["Args"]
        given = made["upstream"] in GIVEN
        if made["upstream"] != here.upstream if given else made["checkpoint"] != here.checkpoint:
            of = f"-u {args.upstream}" + (f" -k {args.upstream_ckpt}" if args.upstream_ckpt and not given else "")
            self._refuse(f"was trained on {of}, whose weights and settings are not those of -u {here.upstream} here.")
        for name, flag in _ALIKE.items():
            before, now = made.get(name, "mean"), getattr(here, name)
            if before != now:
                self._refuse(f"was trained with {flag} {before}, not {now}.")
        if args.upstream_layer_selection != self.cell.upstream.layer:
            self._refuse(f"was trained with -l {args.upstream_layer_selection}, not {self.cell.upstream.layer}.")

    def _refuse(self, why: str) -> NoReturn:
        raise UserError(f"metarc.initialisation: {self.path} {why}")
