"""Few-shot, listener-personalised speech emotion recognition by meta-learning, as a plug-in for s3prl.

The public face: corpora and their label sets, splits, episodes, one cell of the benchmark from options to result,
results read again, and a recogniser that adapts to one listener. Each name is imported when it is first used.

    >>> import s3prl_metaperser as mp
    >>> corpus = mp.load_corpus("iemocap", demo)
    >>> split = mp.make_split(corpus, scenario="seen", fold="fold1")
    >>> set(split.test_raters) <= set(corpus.raters())
    True
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if os.name == "nt":  # locks and signals are those of POSIX
    raise ImportError("s3prl_metaperser runs on Linux and macOS. On Windows install it inside WSL 2 (wsl --install).")

if TYPE_CHECKING:
    from s3prl_metaperser.config.options import Options
    from s3prl_metaperser.corpora import load_corpus
    from s3prl_metaperser.corpora.base import Corpus
    from s3prl_metaperser.corpora.label_set import LabelSet
    from s3prl_metaperser.errors import UserError
    from s3prl_metaperser.evaluation.collect import load_results
    from s3prl_metaperser.evaluation.result import Result
    from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
    from s3prl_metaperser.protocol.episodes import frozen_episodes, make_episodes
    from s3prl_metaperser.protocol.splits import make_split
    from s3prl_metaperser.run.cell import run_cell
    from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions

__version__ = "0.2.0"
__all__ = [
    "CellOptions",
    "Corpus",
    "LabelSet",
    "Options",
    "PersonalizedEmotionRecognizer",
    "Result",
    "UpstreamOptions",
    "UserError",
    "__version__",
    "frozen_episodes",
    "load_corpus",
    "load_results",
    "make_episodes",
    "make_split",
    "run_cell",
]

_HOMES = {
    "CellOptions": "run.settings",
    "Corpus": "corpora.base",
    "LabelSet": "corpora.label_set",
    "Options": "config.options",
    "PersonalizedEmotionRecognizer": "listener.recognizer",
    "Result": "evaluation.result",
    "UpstreamOptions": "run.settings",
    "UserError": "errors",
    "frozen_episodes": "protocol.episodes",
    "load_corpus": "corpora",
    "load_results": "evaluation.collect",
    "make_episodes": "protocol.episodes",
    "make_split": "protocol.splits",
    "run_cell": "run.cell",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for: torch and s3prl take seconds, the package itself none."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
