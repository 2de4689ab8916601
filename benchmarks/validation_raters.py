#!/usr/bin/env python
"""Where Meta-PerSER's gain comes from, on the validation raters of demo corpora; no test rater is looked at.

    python benchmarks/validation_raters.py configurations                                    # the shipped one
    python benchmarks/validation_raters.py configurations --set metarc.combined_set=false    # or any other
    python benchmarks/validation_raters.py over-training --set optimizer.lr=1e-3             # step by step
    python benchmarks/validation_raters.py all-labels        # what all of a rater's other labels would give
    python benchmarks/validation_raters.py hearing           # what the rater's own table would give

Steps and the choices of the protocol `tuned` are selected on ten episodes of each fold's validation rater; what is
printed is measured on twenty others of the same rater. The corpus is by default not that of the shipped results (seed
0), since the validation raters of all folds together are the test raters.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import torch
from calibration import UPSTREAM, options_for
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from s3prl_metaperser.corpora import open_corpus
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET
from s3prl_metaperser.demo.ceilings import consensus_table
from s3prl_metaperser.demo.ceilings import scores as ceiling_scores
from s3prl_metaperser.demo.raters import EXTERNALS, rater_models
from s3prl_metaperser.evaluation.meta_testing import meta_test, validation
from s3prl_metaperser.evaluation.metrics import episode_scores
from s3prl_metaperser.evaluation.selection import select
from s3prl_metaperser.meta.model import pooled_logits
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.methods.tuning import overridden
from s3prl_metaperser.protocol.loss import soft_cross_entropy, weighted_targets
from s3prl_metaperser.run.outer_loop import OuterLoop, training_batches
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash
from s3prl_metaperser.upstream.store import FeatureIdentity

FOLDS = ("fold1", "fold2", "fold3", "fold4", "fold5")
SELECTING, MEASURING = 10, 20


def workspace_of(arguments, fold):
    """The workspace of one fold, with its features and task."""
    changes = [f"evalrc.validation_seeds={SELECTING + MEASURING}", *arguments.set]
    options = options_for(arguments.raters, arguments.scenario, fold, changes)
    datarc = options.downstream_expert.datarc
    datarc = dataclasses.replace(datarc, demo=dataclasses.replace(datarc.demo, seed=arguments.corpus_seed))
    options = dataclasses.replace(
        options, downstream_expert=dataclasses.replace(options.downstream_expert, datarc=datarc)
    )
    workspace = Workspace(options, open_corpus(datarc))
    identity = FeatureIdentity(UPSTREAM, checkpoint_hash(UPSTREAM))
    prepared = workspace.prepare(workspace.features(identity, lambda: build_upstream(UPSTREAM)), learned=False)
    return workspace, workspace.task(prepared, identity, arguments.seed)


def measured(results):
    """Macro-F1 in points, loss on query and on support samples, and classes ticked for each utterance."""
    scores = [episode_scores(r.probabilities, r.ticks, LABEL_SET)["macro_f1"] for r in results]
    ticks = [(r.probabilities > 1 / r.probabilities.shape[1]).sum(1).mean() for r in results]
    return [
        100 * np.mean(scores), *(np.mean([getattr(r, name) for r in results]) for name in ("loss", "support_loss")),
        np.mean(ticks),
    ]  # fmt: skip


def outer_steps(system, task, loop):
    """The runner's batches."""
    for _, batch in training_batches(system.options, task, 0, system.outer_steps):
        loop.update(batch)
        yield loop.step


def trained(system, task, selecting):
    """The state of the outer step with the lowest loss on the selecting episodes, and that step."""
    state = system.initialise(task)
    if not system.outer_steps:
        return state, 0
    best, every = (math.inf, 0, state), system.options.runner.eval_step
    for step in outer_steps(system, task, OuterLoop(system, state, task)):
        if step % every == 0 or step == system.outer_steps:
            value = validation(system, state, selecting, lambda result: result.loss)
            if value < best[0]:
                best = (value, step, copy.deepcopy(state))
    return best[2], best[1]


def configurations(arguments):
    """Each system under both protocols: mean over folds."""
    for name in arguments.systems.split(","):
        rows, steps, chosen = {"paper": [], "tuned": []}, [], []
        for fold in FOLDS:
            _, task = workspace_of(arguments, fold)
            selecting, measuring = task.validation_episodes[:SELECTING], task.validation_episodes[SELECTING:]
            system = SYSTEMS.get(name)(task.options, task.class_weights)
            state, step = trained(system, task, selecting)
            picked = select(system, state, dataclasses.replace(task, validation_episodes=selecting))
            for protocol, one in (("paper", system), ("tuned", picked.system)):
                rows[protocol].append(measured(meta_test(one, state, measuring, support_loss=True)))
            steps.append(step)
            chosen.append(tuple(picked.chosen.values()))
        for protocol, found in rows.items():
            f1, loss, _, ticks = np.mean(found, 0)
            folds = ", ".join(f"{row[0]:.1f}" for row in found)
            print(f"{name:<12} {protocol}: macro-F1 {f1:.2f} [{folds}], loss {loss:.4f}, ticks {ticks:.2f}")
        print(f"{'':<12} selected outer steps {steps}; tuned {chosen}", flush=True)


def over_training(arguments):
    """Meta-PerSER after 0, 10, 30, 75 and 150 outer steps, adapted by 5 and by 50 steps."""
    found = {}
    for fold in FOLDS:
        _, task = workspace_of(arguments, fold)
        system = SYSTEMS.get("Meta-PerSER")(task.options, task.class_weights)
        state = system.initialise(task)

        def note(outer, system=system, state=state, task=task):
            for inner in (5, 50):
                trial = system.under(overridden(system.options, {"evalrc.steps": inner}))
                results = meta_test(trial, state, task.validation_episodes[SELECTING:], support_loss=True)
                found.setdefault((inner, outer), []).append(measured(results))

        note(0)
        for step in outer_steps(system, task, OuterLoop(system, state, task)):
            if step in (10, 30, 75, 150):
                note(step)
    print("inner outer  macro-F1    loss  support  ticks")
    for (inner, outer), rows in sorted(found.items()):
        f1, loss, support, ticks = np.mean(rows, 0)
        print(f"{inner:>5} {outer:>5} {f1:>9.2f} {loss:>7.4f} {support:>8.4f} {ticks:>6.2f}")


def all_labels(arguments):
    """From the consensus initialisation, AdamW 3e-4 on all of the rater's labels but the query's; a pass a step."""
    curves = []
    for fold in FOLDS:
        _, task = workspace_of(arguments, fold)
        system = SYSTEMS.get("Linear-Zero")(task.options, task.class_weights)
        state, weights = system.initialise(task), task.class_weights
        for episode in task.validation_episodes[SELECTING : SELECTING + 8]:
            hidden = set(episode.query_labels.utterances)
            known = [i for i, utterance in enumerate(task.validation.utterances) if utterance not in hidden]
            inputs = task.features[torch.from_numpy(np.asarray(task.validation.rows)[known])]
            targets = weighted_targets(torch.from_numpy(task.validation.targets[known]), weights)
            leaves = {name: p.detach().clone().requires_grad_() for name, p in state.parameters().items()}
            optimizer, curve = torch.optim.AdamW(leaves.values(), lr=3e-4, weight_decay=0.01), []
            for step in range(101):
                if step % 20 == 0:
                    found = system.predict(state, leaves, episode.query)
                    curve.append(100 * episode_scores(found, episode.query_labels.counts, LABEL_SET)["macro_f1"])
                optimizer.zero_grad()
                soft_cross_entropy(pooled_logits(leaves, inputs), targets).backward()
                optimizer.step()
            curves.append(curve)
    print("passes   0, 20, 40, 60, 80, 100:", np.round(np.mean(curves, 0), 1).tolist())


def hearing(arguments):
    """Intended emotions as a linear classifier hears them (five-fold), then the others' table or the rater's own."""
    workspace, task = workspace_of(arguments, "fold1")
    corpus, ids = workspace.corpus, [utterance.id for utterance in workspace.utterances]
    card = json.loads((corpus.root / "demo.json").read_text())
    inputs, intended = task.features[:, 0].numpy(), np.array([CLASSES.index(card["intended"][name]) for name in ids])
    heard = np.zeros((len(ids), len(CLASSES)))
    for fit, rest in KFold(5, shuffle=True, random_state=0).split(inputs):
        model = LogisticRegression(C=0.03, max_iter=2000).fit(inputs[fit], intended[fit])
        heard[np.ix_(rest, model.classes_)] = model.predict_proba(inputs[rest])
    right, most = (heard.argmax(1) == intended).mean(), np.bincount(intended).max() / len(ids)
    print(f"the intended emotion is heard in {100 * right:.1f} % (the most frequent one has {100 * most:.1f} %)")
    ticks = {(rating.rater, rating.utterance): rating.ticks for rating in corpus.ratings}
    models = rater_models(arguments.raters)
    for title, given in (("hears", heard), ("knows", np.eye(len(CLASSES))[intended])):
        for kind in ("the others' table", "the rater's own"):
            found = []
            for rater in EXTERNALS:
                own = next(model.table for model in models if model.id == rater)
                table = own if kind == "the rater's own" else consensus_table(models, rater)
                rows = [row for row, name in enumerate(ids) if (rater, name) in ticks]
                targets = np.array([[c in ticks[rater, ids[row]] for c in CLASSES] for row in rows])
                found.append(100 * ceiling_scores(given[rows] @ table, targets)["macro_f1"])
            print(f"{title} the emotion, {kind}: macro-F1 {np.mean(found):.1f} {np.round(found, 1).tolist()}")


QUESTIONS = {
    "configurations": configurations,
    "over-training": over_training,
    "all-labels": all_labels,
    "hearing": hearing,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--raters", choices=["identical", "opposed", "paper"], default="paper")
    parser.add_argument("--scenario", choices=["seen", "unseen"], default="seen")
    parser.add_argument("--systems", default="Linear-Zero,Linear-Few,Meta-PerSER", help="separated by commas")
    parser.add_argument("--corpus-seed", type=int, default=1, help="seed of the demo corpus [%(default)s]")
    parser.add_argument("--seed", type=int, default=1337, help="training seed [%(default)s]")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    QUESTIONS[chosen.question](chosen)
