"""From an experiment folder to a model folder that needs neither the corpus nor the machine that trained it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.label_sets import set_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.listener.card import (
    SCHEMA,
    Adaptation,
    Card,
    TrainingCard,
    UpstreamCard,
    licence_notes,
    option_sections,
)
from s3prl_metaperser.listener.folder import HEARD, MEAN, PRIORS, RATES, SCALE, check_new, write_folder
from s3prl_metaperser.methods import DEFAULT_SYSTEM, systems
from s3prl_metaperser.methods.base import System
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.run.experiment import BEST
from s3prl_metaperser.s3prl_plugin.registration import DOWNSTREAM
from s3prl_metaperser.s3prl_stack.hub import checkpoint_urls
from s3prl_metaperser.s3prl_stack.weights_files import is_address
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.hashing import tensor_hash
from s3prl_metaperser.storage.paths import steps_of
from s3prl_metaperser.storage.sources import versions
from s3prl_metaperser.upstream.hubconf import GIVEN
from s3prl_metaperser.upstream.store import RECIPE


class Exported(NamedTuple):
    """What :func:`export` has written.

    Attributes:
        card: the model's.
        needs: what a command on the model also needs, by the paths that training was given: ``["-k", FILE]``, or empty.
    """

    card: Card
    needs: list[str]


def export(experiment: Path, out: Path, *, licence: str | None = None) -> Exported:
    """Write the selected checkpoint of an experiment as a model folder.

    Args:
        experiment: the experiment folder, or one of its checkpoints.
        out: a new or empty folder.
        licence: the model's, for the card.

    Returns:
        The card, and the files that the model is used with.

    Raises:
        UserError: no experiment of this downstream, a system that cannot personalise, an upstream that hears no audio,
            or ``out`` is in use.
    """
    check_new(out)
    path = _checkpoint(experiment)
    content = read_checkpoint(path)
    args = content["Args"]
    if getattr(args, "downstream", None) != DOWNSTREAM:
        raise UserError(f"{path} belongs to the downstream {getattr(args, 'downstream', None)!r}, not to {DOWNSTREAM}.")
    if args.upstream in GIVEN:
        raise UserError(
            f"{path} goes by -u {args.upstream}, which knows recordings by name and hears no audio, a listener's clips "
            "least of all. Train with the upstream that computed the vectors, and export that."
        )
    system, registry = content.get("System", DEFAULT_SYSTEM), systems(args.upstream_trainable)
    if not _can_personalise(registry.get(system)):
        able = [name for name in registry.names() if _can_personalise(registry.get(name))]
        raise UserError(f"{path} holds {system}, which cannot be adapted to a listener. These can: {', '.join(able)}.")
    if "Training" not in content or "Adapted" not in content:
        raise UserError(
            f"{path} was written by an earlier version, which did not keep what adaptation needs (class weights). "
            "Train again; the features and the initialisation are still in the cache."
        )
    result = _result(path.parent, content)
    options = _options_in_force(content, result)
    tensors, digest = _tensors(content)
    training = content["Training"]
    label_set = set_of(training)
    card = Card(
        schema=SCHEMA,
        kind="model",
        system=system,
        scope="finetuned" if args.upstream_trainable else "frozen",
        classes=label_set.classes,
        label_set=label_set,
        upstream=_upstream(args, training, options, digest),
        adaptation=Adaptation.under(options, tuple(training["class_weights"])),
        options=option_sections(options),
        training=_training(content, args),
        metrics=None if result is None else _metrics(result),
        licences=licence_notes(args.upstream, training["corpus"]["name"], licence),
        versions=versions(),
        parameters=tuple(content["Adapted"]),
        sha256="",
        listener=None,
    )
    write_folder(out, card, tensors)
    return Exported(card, _needs(args))


def _can_personalise(system: type[System]) -> bool:
    """Whether the K samples change what it predicts, and it hears what it predicts."""
    return system.personalises and (system.facts is None or system.facts.learns)


def _needs(args: argparse.Namespace) -> list[str]:
    """What s3prl does not download: weights, a configuration; names alone where they are no longer there."""
    given = (("-k", args.upstream_ckpt), ("-g", args.upstream_model_config))
    files = ((option, file) for option, file in given if file and not is_address(file))
    return [word for option, file in files for word in (option, file if Path(file).exists() else Path(file).name)]


def _checkpoint(experiment: Path) -> Path:
    if experiment.is_file():
        return experiment
    if not experiment.is_dir():
        raise UserError(f"{experiment}: no such experiment folder.")
    if (experiment / BEST).is_file():
        return experiment / BEST
    states = steps_of(experiment)
    if not states:
        raise UserError(f"{experiment} is not an experiment folder: no {BEST} and no states-*.ckpt. Train first.")
    return states[-1][1]


def _result(folder: Path, content: Mapping[str, Any]) -> Result | None:
    """The result file beside the checkpoint, if it is of this very checkpoint."""
    path = folder / "result_test.json"
    if not path.is_file():
        return None
    result = Result.read(path)
    same = result.hashes.task == content.get("Task") and result.selected_step == content.get("Step")
    return result if same and result.cell.system == content.get("System") else None


def _options_in_force(content: Mapping[str, Any], result: Result | None) -> Options:
    """The options that the metrics were computed under, so that they describe what is exported; else training's."""
    if result is None:
        return Options.from_config(content["Config"], stored=True)
    options = Options.from_config(result.options, stored=True)
    return overridden(options, result.tuned.chosen) if result.tuned else options


def _tensors(content: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], str | None]:
    """All that adapts, rates and preprocessing; and with -f a hash of what does not adapt."""
    finetuned, upstream = "Upstream" in content, content.get("Upstream", {})
    head = {**(content["Featurizer"] or {"weights": torch.zeros(1)}), **content["Downstream"]}
    known = dict(head)
    if finetuned:
        known = {f"head.{name}": value for name, value in head.items()}
        known |= {f"upstream.{name}": value for name, value in upstream.items()}
    tensors = {name: known[name] for name in content["Adapted"]}
    if "InnerRates" in content:
        tensors[RATES] = content["InnerRates"]["values"]
    tensors |= {f"{PRIORS}{name}": value for name, value in content.get("OutputPriors", {}).items()}
    tensors |= {f"{HEARD}{name}": value for name, value in content.get("Heard", {}).items()}
    if not finetuned:
        tensors |= {MEAN: content["Preprocessing"]["mean"], SCALE: content["Preprocessing"]["scale"]}
    rest = {name: value for name, value in upstream.items() if f"upstream.{name}" not in tensors}
    return tensors, tensor_hash(rest) if finetuned else None


def _upstream(
    args: argparse.Namespace, training: Mapping[str, Any], options: Options, digest: str | None
) -> UpstreamCard:
    given, modelrc = args.upstream_ckpt, options.downstream_expert.modelrc
    source = checkpoint_urls(args.upstream) or ([given if is_address(given) else Path(given).name] if given else [])
    layers, features = training["shape"]
    return UpstreamCard(
        name=args.upstream,
        checkpoint=training["upstream_checkpoint"],
        source=tuple(source),
        model_config=Path(args.upstream_model_config).name if args.upstream_model_config else None,
        selection=args.upstream_feature_selection,
        layer=args.upstream_layer_selection,
        normalize=args.upstream_feature_normalize and args.upstream_layer_selection is None,  # as in s3prl
        dtype=modelrc.feature_dtype,
        precision="bfloat16" if modelrc.bf16 else "float32",
        recipe=RECIPE,
        layers=layers,
        features=features,
        standardized=training["standardized"],
        not_adapted=digest,
    )


def _training(content: Mapping[str, Any], args: argparse.Namespace) -> TrainingCard:
    by_loss = Options.from_config(content["Config"], stored=True).downstream_expert.metarc.criterion == "loss"
    training, loss = content["Training"], content.get("Best", {}).get("loss") if by_loss else None
    return TrainingCard(
        corpus=training["corpus"]["name"],
        fingerprint=training["corpus"]["fingerprint"],
        **training["split"],
        seed=args.seed,
        selected_step=content["Step"],
        validation_loss=loss if loss is not None and math.isfinite(loss) else None,
        start=training.get("start"),
    )


def _metrics(result: Result) -> dict[str, Any]:
    """The metrics with their 95 % intervals, and on what: one rater that nothing was learned from."""
    cell, counts = result.cell, result.counts
    return {
        **{name: span.as_json() for name, span in result.metrics.items()},
        "raters": 1,
        "scenario": cell.scenario,
        "fold": cell.fold,
        "protocol": cell.protocol,
        "shots": counts.shots_used,
        "queries": counts.queries_used,
        "seeds": counts.episodes,
        "steps": cell.steps,
    }
