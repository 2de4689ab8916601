"""MetaRunner: s3prl's Runner for listener-personalised emotion recognition.

It keeps s3prl's experiment folder, checkpoints and switches, and replaces what a few-shot system needs otherwise: the
upstream is loaded only when features are missing, training runs over raters' episodes, and evaluation adapts to the
test rater before it predicts.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from s3prl.downstream.runner import ModelEntry, Runner
from torch import nn
from tqdm import tqdm

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import Options, training_options
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.evaluation.meta_testing import meta_test, validation_loss
from s3prl_metaperser.evaluation.result import EvaluatedCell, Raters, Result, Tuned
from s3prl_metaperser.evaluation.selection import select
from s3prl_metaperser.evaluation.trajectory import trajectory
from s3prl_metaperser.methods import DEFAULT_SYSTEM, systems
from s3prl_metaperser.methods.base import ModelState, System, TrainingTask
from s3prl_metaperser.methods.state import state_hash, unpack_state
from s3prl_metaperser.run.experiment import BEST, NOTHING, Experiment
from s3prl_metaperser.run.scopes import open_scope
from s3prl_metaperser.run.training import OuterLoop, batches
from s3prl_metaperser.run.workspace import Workspace, say
from s3prl_metaperser.s3prl_plugin.arguments import is_wanted
from s3prl_metaperser.s3prl_plugin.expert import DownstreamExpert
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.provenance import differences, refuse


class LayerWeights(nn.Module):
    """Stands in for s3prl's Featurizer: the layer weights [L], the feature size and the frame rate."""

    def __init__(self, layers: int, features: int, rate: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))
        self.output_dim = features
        self.downsample_rate = rate


class MetaRunner(Runner):
    """Runs one cell: one corpus, upstream, scenario, fold and system.

    Args:
        args: the launcher's arguments (see :mod:`s3prl_metaperser.s3prl_plugin.arguments`).
        config: the configuration, as read from YAML.
        open_workspace: how corpus and features are come by.
    """

    def __init__(self, args, config: dict[str, Any], open_workspace: Callable[[Options], Workspace] = Workspace):
        self.started = time.perf_counter()
        self._open_workspace = open_workspace
        _refuse_unsupported(args)
        self.system_name = args.downstream_variant or DEFAULT_SYSTEM
        system = systems(args.upstream_trainable).get(self.system_name)
        self.options = system.options_in_force(Options.from_config(config))
        _set_threads(self.options.runner.threads)
        super().__init__(args, self.options.as_config())
        weights = self.downstream.model.class_weights.to(args.device)
        self.system = system(self.options, weights)

    # -- what s3prl's constructor calls ------------------------------------------------------------------------

    def _get_upstream(self) -> ModelEntry:
        self.workspace = self._open_workspace(self.options)
        for line in self.workspace.describe():
            say(line)
        self.scope = open_scope(self.args, self.options, self.workspace)
        return ModelEntry(nn.Identity(), "Upstream", False, [])

    def _get_featurizer(self) -> ModelEntry:
        layers, features = self.scope.prepared.values.shape[1:]
        return ModelEntry(LayerWeights(layers, features, self.scope.rate), "Featurizer", True, [])

    def _get_downstream(self) -> ModelEntry:
        expert = DownstreamExpert(
            upstream_dim=self.featurizer.model.output_dim,
            upstream_rate=self.featurizer.model.downsample_rate,
            workspace=self.workspace,
            **{**self.config, **vars(self.args)},
        ).to(self.args.device)
        expert.needs_audio = False
        return ModelEntry(expert, "Downstream", True, [])

    # -- training ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def task(self) -> TrainingTask:
        """The training task of this cell."""
        scope, args = self.scope, self.args
        return self.workspace.task(scope.prepared, scope.identity, args.seed, args.device, scope.model)

    def train(self) -> None:
        """Meta-train, or go on from a checkpoint; keep the step that suits the validation rater best."""
        task, runner = self.task, self.options.runner
        files, (state, best) = self._experiment(), self._start(task)
        total, expert = self.system.outer_steps, self.downstream.model
        loop = OuterLoop(self.system, state, task) if total else None
        done = int(self.init_ckpt.get("Step", 0)) if self.args.past_exp else 0
        losses: list[float] = []  # since the last line in the log
        if self.args.past_exp:
            changed = differences(self.init_ckpt["Config"], self.config)
            for phrase in changed:
                say(f"from step {done} on: {phrase}")
                files.note(f"From step {done} on: {phrase}")
            best = files.go_on_after(Path(self.args.past_exp), done, best, changed=bool(changed))
        if loop is not None and done:
            loop.resume(self.init_ckpt["Optimizer"], done)
            losses += self.init_ckpt.get("Losses", [])
            if done < total:
                files.note(f"Going on after step {done}")
        if loop is not None:
            say(f"{self.system_name}: {total - done} outer steps, engine: {self.system.engine(state)}")
        quiet = loop is None or not parallel.is_leader()
        try:
            if loop is None:
                best = self._validate(files, state, None, 0, best)
                files.save_states(state, None, 0, best, losses, runner.max_keep)
            with tqdm(total=total, initial=done, desc=self.system_name, dynamic_ncols=True, disable=quiet) as bar:
                for epoch, batch in batches(expert.get_dataloader, expert.steps_per_epoch, done, total):
                    losses.append(loop.update(batch))
                    step = loop.step
                    if step % runner.log_step == 0 or step == total:
                        files.log("train", "loss", sum(losses) / len(losses), step)
                        bar.set_postfix(loss=f"{losses[-1]:.4f}", best=f"{best['loss']:.4f}@{best['step']}")
                        losses = []
                    if step % runner.eval_step == 0 or step == total:
                        best = self._validate(files, state, loop, epoch, best)
                    if step % runner.save_step == 0 or step == total:
                        files.save_states(state, loop, epoch, best, losses, runner.max_keep)
                    bar.update()
        finally:
            files.close()
        if not math.isfinite(best["loss"]):
            raise UserError(
                f"No step of {self.system_name} could be meta-tested on the validation rater: adaptation diverges. "
                "Lower metarc.inner_lr or fewrc.lr."
            )
        if is_wanted(self.args.push_to_hf_hub) and parallel.is_leader():
            self.push_to_huggingface_hub()
        self._say_where_everything_is(files.folder, best)

    def _experiment(self) -> Experiment:
        constants = {
            "Args": self.args,
            "Config": self.config,
            "System": self.system_name,
            "Task": self.task.identity,
            "MadeFrom": self.task.made_from,
            "Preprocessing": {"mean": self.scope.prepared.mean, "scale": self.scope.prepared.scale},
            "Training": self._what_adaptation_needs(),
        }
        return Experiment(Path(self.args.expdir), self.downstream.model.get_downstream_name(), constants)

    def _what_adaptation_needs(self) -> dict[str, Any]:
        """What adapting to a new listener needs of the training data, which need not be there then."""
        corpus, split, prepared = self.workspace.corpus, self.workspace.split, self.scope.prepared
        return {
            "classes": list(self.task.classes),
            "label_set": self.task.label_set.as_dict(),
            "class_weights": self.task.class_weights.tolist(),
            "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint()},
            "split": {"scenario": split.scenario, "fold": split.fold, "train_raters": len(split.train_raters)},
            "upstream_checkpoint": self.scope.identity.checkpoint,
            "shape": list(prepared.values.shape[1:]),
            "standardized": prepared.standardized,
        }

    def _start(self, task: TrainingTask) -> tuple[ModelState, dict[str, Any]]:
        if not self.init_ckpt:
            return self.system.initialise(task), dict(NOTHING)
        state = self._loaded()
        return state, dict(self.init_ckpt.get("Best", NOTHING)) if self.args.past_exp else dict(NOTHING)

    def _validate(self, files: Experiment, state: ModelState, loop: OuterLoop | None, epoch: int, best):
        """Meta-test the validation rater; write ``dev-best.ckpt`` where this step is the best so far."""
        value, step = validation_loss(self.system, state, self.task.validation_episodes), loop.step if loop else 0
        files.log("dev", "loss", value, step)
        if value < best["loss"]:
            best = {"loss": value, "step": step}
            files.note(f"New best on dev at step {step}: {value}")
            files.save(BEST, state, loop, epoch, best)
        return best

    def _say_where_everything_is(self, folder: Path, best: dict[str, Any]) -> None:
        say(f"{self.system_name} is trained in {time.perf_counter() - self.started:.1f} s; everything is in {folder}:")
        say(f"  {BEST}: step {best['step']}, validation loss {best['loss']:.4f}")
        say("  states-*.ckpt to go on from, log.log, events.* for TensorBoard")
        say(f"next: python run_downstream.py -m evaluate -e {folder}")

    def push_to_huggingface_hub(self) -> None:
        """Upload the experiment folder (``--push_to_hf_hub``) to the user's or ``--hf_hub_org``'s model repository."""
        from huggingface_hub import HfApi

        api = HfApi()
        owner = self.args.hf_hub_org
        owner = owner if owner and owner.lower() != "none" else api.whoami()["name"]
        split = self.workspace.split
        name = f"{owner}/{self.args.upstream}-{self.system_name}-{split.scenario}-{split.fold}"
        name = re.sub(r"[^\w./-]+", "-", name)
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=self.args.expdir, ignore_patterns=["previous-*"])
        say(f"uploaded to https://huggingface.co/{name}")

    # -- evaluation --------------------------------------------------------------------------------------------

    def go_on_from(self, checkpoint: Path) -> None:
        """Evaluate, or train on, from a checkpoint of this experiment, as ``-e`` does in a new process."""
        self.args.past_exp = self.args.init_ckpt = str(checkpoint)
        self.init_ckpt = read_checkpoint(checkpoint)

    def _loaded(self) -> ModelState:
        """The state of the checkpoint that ``-e``, ``-a`` or ``-i`` names."""
        source = self.args.init_ckpt
        if self.init_ckpt.get("System", self.system_name) != self.system_name:
            raise UserError(f"{source} holds {self.init_ckpt['System']}, not {self.system_name} (-v).")
        if self.args.past_exp and self.init_ckpt.get("Task") != self.task.identity:
            advice = "Train again, or restore what it was trained on; -i loads its parameters all the same."
            then = self.init_ckpt.get("MadeFrom")
            if not isinstance(then, dict):
                raise UserError(f"{source} was trained on other data, and does not say on which. {advice}")
            raise refuse(f"{source} was trained on other data: it", then, self.task.made_from, advice)
        state = unpack_state(self.init_ckpt, self.system.blank(self.task), source)
        return state.to(self.args.device)

    def _refuse_changed_training(self) -> None:
        """The result's options say how the state was trained, which evaluating does not change."""
        then, now = (training_options(config) for config in (self.init_ckpt["Config"], self.config))
        if found := differences(then, now):
            raise UserError(
                f"{self.args.init_ckpt} was trained with other options (stored -> current: {'; '.join(found)}). "
                "Evaluating does not train: remove them from -o, or train again."
            )

    def evaluate(self, split: str | None = None, logger=None, global_step: int = 0) -> list[str]:
        """Meta-test the fold's test rater (``-t test``) or validation rater (``-t dev``); write the result file."""
        split = split or self.args.evaluate_split
        roles = {"test": "test", "dev": "validation"}
        if split not in roles:
            raise unknown_name("split", split, roles)
        task = self.task
        if not self.init_ckpt:
            raise UserError("Nothing to evaluate: name an experiment with -e EXPDIR or a checkpoint with -i FILE.")
        state = self._loaded()
        if self.args.past_exp:
            self._refuse_changed_training()
        parameters = state_hash(state)
        system, tuned = self._tuned(state)  # before anything of the test rater is read
        episodes = self.workspace.episodes(roles[split])
        on_device = dataclasses.replace(self.scope.prepared, values=task.features)
        data = self.workspace.episode_data(episodes, on_device, roles[split])
        if note := episodes.shrink_note():
            say(note)
        begun = time.perf_counter()
        tested = meta_test(system, state, data, progress=f"meta-testing {episodes.rater}")
        seconds = time.perf_counter() - begun
        evalrc = system.options.downstream_expert.evalrc
        result = Result.of(
            cell=dataclasses.replace(self._cell(split), steps=evalrc.steps),
            label_set=task.label_set,
            raters=self._raters(episodes.rater),
            asked=episodes,
            tested=tested,
            hashes={
                "corpus": self.workspace.corpus.fingerprint(),
                "task": task.identity,
                "features": self.scope.identity.key,
                "upstream_checkpoint": self.scope.identity.checkpoint,
                "parameters": parameters,
            },
            options=self.options.as_config(),
            selected_step=int(self.init_ckpt.get("Step", 0)),
            engine=self.system.engine(state),
            seconds=seconds,
            draws=evalrc.interval_draws,
            tuned=tuned,
            trajectory=trajectory(system, state, data, evalrc.trajectory, task.label_set),
        )
        if not parallel.is_leader():
            return []
        path = Path(self.args.expdir) / f"result_{split}.json"
        result.write(path)
        counts = result.counts
        title = (
            f"{self.system_name}, {self.args.upstream} ({self.scope.name}), {self.workspace.corpus.name} "
            f"{self.workspace.split.scenario}/{self.workspace.split.fold}, rater {episodes.rater}: "
            f"K={counts.shots_used}, Q={counts.queries_used}, {counts.episodes} seeds, {evalrc.steps} steps"
        )
        print(result.table(title), flush=True)
        for name, span in result.metrics.items():
            self._experiment().note(f"{split} {name} at step {result.selected_step}: {span.mean}")
        say(f"result file: {path}")
        return []

    def _tuned(self, state: ModelState) -> tuple[System, Tuned | None]:
        """The system as the protocol wants it, and what the validation rater chose for it."""
        if self.options.downstream_expert.evalrc.protocol == "paper":
            return self.system, None
        selection = select(self.system, state, self.task)
        shown = ", ".join(f"{name}={value}" for name, value in selection.chosen.items()) or "nothing to choose"
        say(f"protocol tuned: {shown} (by the validation rater, of {len(selection.losses)} choices)")
        return selection.system, selection.record(len(self.task.validation_episodes))

    def _cell(self, split: str) -> EvaluatedCell:
        evalrc = self.options.downstream_expert.evalrc
        return EvaluatedCell(
            corpus=self.workspace.corpus.name,
            upstream=self.args.upstream,
            scope=self.scope.name,
            scenario=self.workspace.split.scenario,
            fold=self.workspace.split.fold,
            system=self.system_name,
            split=split,
            shots=evalrc.shots,
            queries=evalrc.queries,
            seeds=tuple(range(evalrc.seeds if split == "test" else evalrc.validation_seeds)),
            steps=evalrc.steps,
            protocol=evalrc.protocol,
            standardized=self.scope.prepared.standardized,
            training_seed=self.args.seed,
        )

    def _raters(self, tested: str) -> Raters:
        split = self.workspace.split
        return Raters(tested, split.validation_rater, tuple(split.train_raters))

    def inference(self) -> dict[str, float]:
        """Print and return the class probabilities of the audio file that ``-t`` names, before any adaptation.

        The same path as ``metaperser predict`` on the exported experiment, and the same bits.
        """
        if not self.init_ckpt:
            raise UserError("Nothing to infer with: name an experiment with -e EXPDIR or a checkpoint with -i FILE.")
        path = Path(self.args.evaluate_split)
        if not path.is_file():
            raise UserError(f"-t {path}: no such audio file.")
        state = self._loaded()
        probabilities = self.system.predict(state, self.system.unadapted(state), self.scope.read(path))[0]
        label_set = self.workspace.corpus.label_set
        rows = zip(label_set.classes, probabilities.tolist(), label_set.decide(probabilities), strict=True)
        for name, value, chosen in sorted(rows, key=lambda row: -row[1]):
            print(f"{name:<12} {value:.3f}{'  ticked' if chosen else ''}")
        return dict(zip(label_set.classes, probabilities.tolist(), strict=True))


def _refuse_unsupported(args) -> None:
    """Ways to start that have no meaning here."""
    if parallel.world() > 1 and not args.upstream_trainable:
        raise UserError("With a frozen upstream one process is enough and fastest: start it without torchrun.")
    if getattr(args, "hub", "torch") == "huggingface":
        raise UserError(
            "--hub huggingface runs code that it downloads. Use -u hf_hubert_custom or hf_wav2vec2_custom, -k FOLDER."
        )


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
