"""``metaperser pretrain``: weights for ``modelrc.weights``, by telling speakers apart."""

from __future__ import annotations

import argparse
import shlex
import sys

from s3prl_metaperser.commands.common import positive
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser(
        "pretrain", help="pre-train ResNet18 on folders of speakers, such as VoxCeleb's: weights for modelrc.weights"
    )
    parser.add_argument("folder", metavar="DIR", help="each of its folders is a speaker, with recordings at any depth")
    parser.add_argument("--out", required=True, metavar="FILE", help="a new file; FILE.states keeps what is done")
    parser.add_argument("--epochs", type=positive(int), default=50, metavar="N", help="passes over the recordings [50]")
    parser.add_argument("--batch-size", type=positive(int), default=64, metavar="N", help="recordings in a batch [64]")
    parser.add_argument("--lr", type=positive(float), default=0.01, metavar="RATE", help="of SGD, momentum 0.9 [0.01]")
    parser.add_argument("--seconds", type=positive(float), default=2.0, metavar="S", help="length of a crop [2]")
    parser.add_argument("--channels", type=positive(int), default=64, metavar="N", help="of the first stage [64]")
    parser.add_argument("--window", choices=("hann", "hamming"), default="hann", help="of the frames [hann]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="[0]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.errors import UserError
    from s3prl_metaperser.run.pretraining import Pretraining, Trainer, find_speakers
    from s3prl_metaperser.storage.locks import beside, held

    root, out = user_path(arguments.folder), user_path(arguments.out)
    if out.exists():
        raise UserError(f"--out {out} exists. Name another file, or remove it.")
    named = ("epochs", "batch_size", "lr", "seconds", "channels", "window", "seed")
    settings = Pretraining(**{name: getattr(arguments, name) for name in named})
    with held(beside(out), f"--out {out}"):
        speakers = find_speakers(root, settings)
        held_out = len(speakers.held_out)
        print(f"{len(speakers.names)} speakers, {len(speakers.train)} recordings, and {held_out} held out")
        if speakers.passed_over:
            print(f"passed over: {speakers.passed_over}", file=sys.stderr)
        trainer = Trainer(root, speakers, settings, out.with_name(f"{out.name}.states"), arguments.device)
        if trainer.progress.step:
            print(f"resuming after batch {trainer.progress.step} of {settings.epochs * trainer.per_epoch}")
        for line in trainer.run():
            print(line, flush=True)
        trainer.write(out)
    options = {"network": "resnet18", "weights": out, "channels": settings.channels}
    written = ",,".join(f"config.downstream_expert.modelrc.{name}={value}" for name, value in options.items())
    print(f"to use it: -u logmel -o {shlex.quote(written)}")
    return 0
