"""Registers this project's downstreams with s3prl."""

from __future__ import annotations

import functools
from pathlib import Path

from s3prl_metaperser.config.options import merged
from s3prl_metaperser.config.yaml_files import check_numbers, read_yaml
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK, TASKS, task_of

DOWNSTREAM = DEFAULT_TASK
MODES = ("train", "evaluate", "inference")


def register() -> None:
    """Make ``s3prl.downstream.personalized_emotion`` and its neighbour importable, from a checkout too, and have them
    run here."""
    import s3prl.downstream

    parent = str(downstream_folder(DOWNSTREAM).parent)
    if parent not in s3prl.downstream.__path__:
        s3prl.downstream.__path__.append(parent)
    hand_over()


def hand_over() -> None:
    """Make s3prl's own Runner delegate the tasks of this project.

    ``python -m s3prl.run_downstream`` creates a plain Runner before it imports the expert. Its train, evaluate and
    inference then call a MetaRunner, or the task's own function, with the same arguments; other downstreams are
    unaffected.
    """
    from s3prl.downstream.runner import Runner

    for mode in MODES:
        stock = Runner.__dict__[mode]
        if not hasattr(stock, "hands_over"):
            setattr(Runner, mode, _handing_over(mode, stock))


def _handing_over(mode: str, stock):
    @functools.wraps(stock)
    def method(self, *args, **kwargs):
        from s3prl_metaperser.s3prl_plugin.runner import MetaRunner, run_task

        name = getattr(self.args, "downstream", None)
        if name not in TASKS.names() or isinstance(self, MetaRunner):
            return stock(self, *args, **kwargs)
        task = task_of(name)
        shipped = task.configuration("finetuned" if self.args.upstream_trainable else "frozen")
        if (file := getattr(self.args, "config", None)) and Path(file).is_file():
            check_numbers(file)  # s3prl has read it
        config = merged(read_yaml(shipped) if shipped else {}, self.config)
        options = task.options_from(config, stored=mode != "train")
        if not getattr(self.args, "past_exp", None):
            for line in options.not_used():
                say(line)
        if name != DOWNSTREAM:
            return run_task(self.args, options)
        return getattr(MetaRunner(self.args, config), mode)(*args, **kwargs)

    vars(method)["hands_over"] = True
    return method
