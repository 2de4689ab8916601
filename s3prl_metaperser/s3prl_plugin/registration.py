"""Registers ``-d personalized_emotion`` with s3prl."""

from __future__ import annotations

import functools
from pathlib import Path

from s3prl_metaperser.config.options import Options, merged
from s3prl_metaperser.config.yaml_files import check_numbers, read_yaml
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK, task_of

DOWNSTREAM = DEFAULT_TASK
MODES = ("train", "evaluate", "inference")


def register() -> None:
    """Make ``s3prl.downstream.personalized_emotion`` importable, from a checkout too, and its runner MetaRunner."""
    import s3prl.downstream

    parent = str(downstream_folder(DOWNSTREAM).parent)
    if parent not in s3prl.downstream.__path__:
        s3prl.downstream.__path__.append(parent)
    hand_over()


def hand_over() -> None:
    """Make s3prl's own Runner delegate this downstream to MetaRunner.

    ``python -m s3prl.run_downstream`` creates a plain Runner before it imports the expert. Its train, evaluate and
    inference then call a MetaRunner with the same arguments; other downstreams are unaffected.
    """
    from s3prl.downstream.runner import Runner

    for mode in MODES:
        stock = Runner.__dict__[mode]
        if not hasattr(stock, "hands_over"):
            setattr(Runner, mode, _handing_over(mode, stock))


def _handing_over(mode: str, stock):
    @functools.wraps(stock)
    def method(self, *args, **kwargs):
        from s3prl_metaperser.s3prl_plugin.runner import MetaRunner

        if getattr(self.args, "downstream", None) != DOWNSTREAM or isinstance(self, MetaRunner):
            return stock(self, *args, **kwargs)
        shipped = task_of(DOWNSTREAM).configuration("finetuned" if self.args.upstream_trainable else "frozen")
        assert shipped is not None
        if (file := getattr(self.args, "config", None)) and Path(file).is_file():
            check_numbers(file)  # s3prl has read it
        config = merged(read_yaml(shipped), self.config)
        if not getattr(self.args, "past_exp", None):
            for line in Options.from_config(config).not_used():
                say(line)
        return getattr(MetaRunner(self.args, config), mode)(*args, **kwargs)

    vars(method)["hands_over"] = True
    return method
