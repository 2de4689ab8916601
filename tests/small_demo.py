"""A small demo corpus, made once a session, and the options that suit it."""

import json
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import open_corpus
from s3prl_metaperser.s3prl_plugin import launcher

SMALL = [
    "downstream_expert.datarc.demo.utterances=120",
    "downstream_expert.evalrc.shots=8",
    "downstream_expert.evalrc.queries=24",
    "downstream_expert.evalrc.seeds=3",
    "downstream_expert.evalrc.validation_seeds=2",
    "downstream_expert.evalrc.steps=6",
    "downstream_expert.metarc.shots=8",
    "downstream_expert.metarc.inner_steps=2",
    "downstream_expert.initrc.total_steps=40",
    "downstream_expert.modelrc.projector_dim=16",
    "runner.total_steps=12",
    "runner.eval_step=4",
    "runner.save_step=4",
    "runner.log_step=4",
]


def overrides(*more: str) -> str:
    """The value of ``-o`` for a quick run."""
    return ",,".join(f"config.{item}" for item in [*SMALL, *more])


def train_command(
    folder: Path, *more: str, upstream: str = "fbank_no_cmvn", options: tuple[str, ...] = ()
) -> list[str]:
    """Arguments of a quick training run into ``folder``."""
    start = ["-d", "personalized_emotion", "-u", upstream, "-m", "train", "-p", str(folder)]
    return [*start, "-o", overrides(*options), *more]


def demo_root() -> Path:
    """The folder of the small demo corpus, which is made where it is absent."""
    datarc = {"demo": {"utterances": 120}}
    return open_corpus(Options.from_config({"downstream_expert": {"datarc": datarc}}).downstream_expert.datarc).root


def trained_and_evaluated(folder: Path, *more: str, **changes: Any) -> Path:
    """``folder``, with an experiment in it that :func:`train_command` has trained and that is evaluated."""
    assert launcher.main(train_command(folder, *more, **changes)) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    return folder


def stored(path: Path) -> dict[str, Any]:
    """A result file as it stands on disk: tests read it as anyone would, without the code under test."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
