#!/usr/bin/env python
"""Is a listener's path the benchmark's? The demo's opposed raters, exported, adapted and predicted from their audio.

    OMP_NUM_THREADS=1 python benchmarks/listener_margin.py [--folds fold2 fold4] [--systems Meta-PerSER Linear-Few]

Each cell is trained and evaluated through s3prl's command line and exported, and every episode of its result file is
played again through PersonalizedEmotionRecognizer, which knows nothing but the model folder and audio files. Shown are
macro-F1 of adapted and of zero-shot predictions (points, mean over seeds) on both paths, their margin, and the largest
difference between probabilities. By default the two raters whose tables are permuted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import torch

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.config.options import DataOptions, DemoOptions
from s3prl_metaperser.corpora import load_corpus, root_of
from s3prl_metaperser.evaluation.metrics import episode_scores
from s3prl_metaperser.listener.export import export
from s3prl_metaperser.s3prl_plugin import launcher

RATERS = "opposed"


def run_cell(folder: Path, fold: str, system: str) -> dict:
    """Train and evaluate; the content of the result file."""
    data = f"config.downstream_expert.datarc.demo.raters={RATERS},,config.downstream_expert.datarc.fold={fold}"
    more = ",,config.downstream_expert.evalrc.trajectory=[0]"
    command = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn", "-m", "train", "-p", str(folder), "-v", system]
    for arguments in ([*command, "-o", data + more], ["-m", "evaluate", "-e", str(folder)]):
        if launcher.main(arguments) != 0:
            raise SystemExit(f"{system}, {fold}: failed")
    return json.loads((folder / "result_test.json").read_text())


def play_again(model: Path, result: dict, corpus) -> tuple[list[float], list[float], float]:
    """macro-F1 of adapted and of zero-shot predictions of each episode, and the largest difference of probabilities."""
    recognizer = PersonalizedEmotionRecognizer.load(model)
    labels = corpus.ratings_of(result["raters"]["test"])
    adapted, unadapted, apart = [], [], 0.0
    for episode in result["episodes"]:
        support, query = ([corpus.utterance(u).path for u in episode[part]] for part in ("support", "query"))
        found = recognizer.adapt(support, [labels[u] for u in episode["support"]]).predict_proba(query)
        shares = np.array(episode["ticks"]) / np.sum(episode["ticks"], axis=1, keepdims=True)
        adapted.append(episode_scores(found, shares, corpus.label_set)["macro_f1"])
        unadapted.append(episode_scores(recognizer.predict_proba(query), shares, corpus.label_set)["macro_f1"])
        apart = max(apart, float(np.abs(found - np.array(episode["probabilities"])).max()))
    return adapted, unadapted, apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folds", nargs="+", default=["fold2", "fold4"], help="[those with permuted raters]")
    parser.add_argument("--systems", nargs="+", default=["Meta-PerSER", "Linear-Few"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'system':<13}{'rater':<7}{'path':<11}{'zero-shot':>10}{'adapted':>10}{'margin':>10}  probabilities differ by"
    )
    with tempfile.TemporaryDirectory() as name:
        for system in chosen.systems:
            for fold in chosen.folds:
                folder = Path(name) / f"{system}-{fold}"
                result = run_cell(folder / "exp", fold, system)
                export(folder / "exp", folder / "model")
                corpus = load_corpus("iemocap", root_of(DataOptions(demo=DemoOptions(raters=RATERS))))
                adapted, unadapted, apart = play_again(folder / "model", result, corpus)
                benchmark = [episode["metrics"]["macro_f1"] for episode in result["episodes"]]
                (start,) = (point for point in result["trajectory"] if point["steps"] == 0)
                rater = result["raters"]["test"]
                for path, before, after in (
                    ("benchmark", start["macro_f1"], benchmark),
                    ("listener", unadapted, adapted),
                ):
                    means = 100 * np.mean(before), 100 * np.mean(after)
                    shown = f"{apart:.1e}" if path == "listener" else ""
                    numbers = f"{means[0]:>10.4f}{means[1]:>10.4f}{means[1] - means[0]:>+10.4f}"
                    print(f"{system:<13}{rater:<7}{path:<11}{numbers}  {shown}", flush=True)


if __name__ == "__main__":
    main()
