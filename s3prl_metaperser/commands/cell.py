"""``metaperser train`` and ``metaperser evaluate``: short forms of s3prl's command line, for one cell."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from s3prl_metaperser.s3prl_plugin.arguments import add_arguments


@dataclass(frozen=True)
class Mode:
    """One of the launcher's modes as a command; it takes the launcher's options.

    Attributes:
        name: the command, and what ``-m`` says.
    """

    name: str
    help: str

    def add(self, commands) -> None:
        parser = commands.add_parser(self.name, help=self.help, description=f"{self.help[0].upper()}{self.help[1:]}.")
        add_arguments(parser)
        parser.set_defaults(run=self.run)

    def run(self, arguments: argparse.Namespace) -> int:
        from s3prl_metaperser.s3prl_plugin.launcher import main
        from s3prl_metaperser.s3prl_plugin.registration import DOWNSTREAM

        begins_anew = self is TRAIN and arguments.downstream is None and arguments.past_exp is None
        return main(["-m", self.name, *(["-d", DOWNSTREAM] if begins_anew else []), *arguments.words])


TRAIN = Mode("train", "train one system on one fold, as run_downstream.py -m train does (-d personalized_emotion)")
EVALUATE = Mode("evaluate", "adapt to the test rater and score, as run_downstream.py -m evaluate does")
