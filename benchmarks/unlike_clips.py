#!/usr/bin/env python
"""How many clips does a model call unlike those it was trained on? Each of some corpora in turn is the training's.

    OMP_NUM_THREADS=1 python benchmarks/unlike_clips.py                                   # ten demo corpora
    OMP_NUM_THREADS=1 python benchmarks/unlike_clips.py --variant identical               # only speakers differ
    OMP_NUM_THREADS=1 python benchmarks/unlike_clips.py --vectors emodb.npz ravdess.npz   # vectors of your own

Half of a corpus's speakers (of vectors, which know no speakers, half of the clips) are the training's. A row of the
table is a training, a column what is asked about: the corpus's own other half, and the others whole. A number is the
share of clips, in percent, that is farther from the training's mean features than 99 in 100 of its own
(s3prl_metaperser/upstream/heard.py): what `predict`, `adapt` and `listen` count.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import torch
from tqdm import tqdm

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import open_corpus
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.run.scopes import identify
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.seeding import numpy_generator
from s3prl_metaperser.upstream.embeddings import read_vectors
from s3prl_metaperser.upstream.heard import Heard
from s3prl_metaperser.upstream.inputs import PooledInputs

#: A corpus: features [N, L, D], and for each clip who speaks (or the clip itself, where nothing says so).
Clips = tuple[torch.Tensor, list[str]]


def demo(variant: str, upstream: str) -> dict[str, Clips]:
    """The ten demo corpora, made on first use, by name."""
    options = Options.from_config({"downstream_expert": {"datarc": {"corpus": "demo_corpora", "variant": variant}}})
    identity, build = identify(CellOptions(UpstreamOptions(upstream), Path(), options), options)
    inputs = PooledInputs(build, identity, None, torch.zeros(()), torch.ones(()))
    found: dict[str, tuple[list[torch.Tensor], list[str]]] = {}
    for clip in tqdm(open_corpus(options.downstream_expert.datarc).utterances, unit="clip"):
        items, who = found.setdefault(clip.session, ([], []))
        items += inputs.each([torch.from_numpy(load_audio(clip.path))])
        who.append(clip.speaker)
    return {name: (torch.stack(items), who) for name, (items, who) in found.items()}


def half(name: str, who: list[str]) -> tuple[list[int], list[int]]:
    """Rows of the training and of the other clips, without a speaker in both."""
    names = sorted(set(who))
    chosen = set(numpy_generator("unlike clips", name).permutation(names)[: len(names) // 2])
    return [i for i, one in enumerate(who) if one in chosen], [i for i, one in enumerate(who) if one not in chosen]


def shares(corpora: dict[str, Clips]) -> np.ndarray:
    """Percent of clips unlike the training's, [training, asked about]."""
    found = np.empty((len(corpora), len(corpora)))
    for row, (name, (values, who)) in enumerate(corpora.items()):
        train, rest = half(name, who)
        heard = Heard.of(values, train)
        for column, (other, (asked, _)) in enumerate(corpora.items()):
            found[row, column] = 100 * heard.unlike(values[rest] if other == name else asked).double().mean()
    return found


def main() -> int:
    """Print the table, and its range at home and elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="shifted", help="of the demo corpora [shifted]")
    parser.add_argument("-u", "--upstream", default="fbank_no_cmvn", help="[fbank_no_cmvn]")
    parser.add_argument("--vectors", type=Path, nargs="+", help="files of vectors as for -u embeddings, one a corpus")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.vectors:
        corpora = {path.stem: (read_vectors(path)[1], read_vectors(path)[0]) for path in given.vectors}
    else:
        corpora = demo(given.variant, given.upstream)
    found = shares(corpora)
    print(f"| training | {' | '.join(corpora)} |\n|---{'|---' * len(corpora)}|")
    for name, row in zip(corpora, found, strict=True):
        print(f"| {name} | {' | '.join(f'{share:.0f}' for share in row)} |")
    own, others = found.diagonal(), found[~np.eye(len(found), dtype=bool)]
    for words, part in (("the corpus's own other half", own), ("other corpora", others)):
        print(
            f"{words}: {part.min():.0f} to {part.max():.0f} %, {part.mean():.0f} % on average, "
            f"said (more than one in ten) in {(part > 10).sum()} of {len(part)}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
