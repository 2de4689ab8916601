"""MetaRunner: s3prl's Runner for listener-personalised emotion recognition, a thin seam to :mod:`s3prl_metaperser.run`.

It keeps s3prl's command line, experiment folder, checkpoints and switches, and replaces what a few-shot system does
differently: the upstream is loaded only when features are missing, training runs over raters' episodes, and evaluation
adapts to the test rater before it predicts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from s3prl.downstream.runner import Runner

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.run.cell import Record, existing_device, refuse_several_processes
from s3prl_metaperser.run.experiment import one_writer
from s3prl_metaperser.run.opened import Checkpoint, OpenCell
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.run.testing import evaluate, predict_file
from s3prl_metaperser.run.training import train
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_plugin.arguments import is_wanted
from s3prl_metaperser.s3prl_plugin.upload import Upload
from s3prl_metaperser.tasks import DEFAULT_TASK, task_of


class MetaRunner(Runner):
    """Runs one cell: one corpus, upstream, scenario, fold and system.

    Args:
        args: the launcher's arguments (see :mod:`s3prl_metaperser.s3prl_plugin.arguments`).
        config: the configuration, as read from YAML.
    """

    def __init__(self, args: argparse.Namespace, config: dict[str, Any]):
        # s3prl's own constructor loads an upstream and a frame-level head, which no cell needs
        if getattr(args, "hub", "torch") == "huggingface":
            raise UserError(
                "--hub huggingface would run downloaded code. Use -u hf_hubert_custom or hf_wav2vec2_custom, -k FOLDER."
            )
        self.args = args
        cell = cell_of(args, Options.from_config(config, stored=args.mode != "train"))
        refuse_several_processes(cell)
        self.past = None
        if args.init_ckpt:
            self.past = Checkpoint.read(Path(args.init_ckpt), resumed=bool(args.past_exp))
        self.opened = OpenCell(cell)
        self.config = self.opened.options.as_config()

    def train(self) -> None:
        """Meta-train, or resume from a checkpoint; keep the step that suits the validation rater best."""
        wanted = is_wanted(self.args.push_to_hf_hub) and parallel.is_leader()
        upload = Upload(self.args.push_to_hf_hub, self.args.hf_hub_org) if wanted else None
        with one_writer(self.opened.cell.folder):
            train(self.opened, self.past)
        if upload is not None:
            cell, split = self.opened.cell, self.opened.workspace.split
            upload.send(cell.folder, f"{cell.upstream.name}-{cell.system}-{split.scenario}-{split.fold}")

    def evaluate(self, split: str | None = None, logger: Any = None, global_step: int = 0) -> list[str]:
        """Meta-test the fold's test rater (``-t test``) or validation rater (``-t dev``); write the result file."""
        with one_writer(self.opened.cell.folder):
            evaluate(self.opened, self.past, split or self.args.evaluate_split)
        return []

    def inference(self) -> dict[str, float]:
        """Print and return the class probabilities of the audio file that ``-t`` names, before any adaptation."""
        return predict_file(self.opened, self.past, Path(self.args.evaluate_split))


def run_task(args: argparse.Namespace, options: Options) -> None:
    """A cell of another task: trained and evaluated at once, as in a grid; or evaluated from a checkpoint."""
    task = task_of(args.downstream)
    args.device = existing_device(args.device)
    past = []
    if task.keeps_checkpoints and args.init_ckpt:
        past = [Checkpoint.read(Path(args.init_ckpt), resumed=bool(args.past_exp))]
    task.runner()(cell_of(args, options), Workspace, Record(), *past)


def cell_of(args: argparse.Namespace, options: Options) -> CellOptions:
    """The cell that the launcher's arguments and a configuration describe."""
    task = args.downstream or DEFAULT_TASK
    upstream = UpstreamOptions(
        name=args.upstream,
        checkpoint=args.upstream_ckpt,
        model_config=args.upstream_model_config,
        selection=args.upstream_feature_selection,
        layer=args.upstream_layer_selection,
        normalize=args.upstream_feature_normalize,
        finetuned=args.upstream_trainable,
        refresh=args.upstream_refresh,
    )
    return CellOptions(
        upstream=upstream,
        folder=Path(args.expdir),
        options=options,
        system=args.downstream_variant or task_of(task).default_system,
        seed=args.seed,
        device=args.device,
        task=task,
        trains=args.mode == "train",
        arguments=args,
    )
