"""The pages of a Dynamic-SUPERB task: what its editors ask of a README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from s3prl_metaperser.corpora import reader_of

if TYPE_CHECKING:
    from s3prl_metaperser.exchange.task_export import Written
    from s3prl_metaperser.run.workspace import Workspace

#: What a task's page must have, as headings.
SECTIONS = ("Task Objective", "Evaluation Results", "Datasets", "References")


def task_page(name: str, workspace: Workspace, written: Sequence[Written], licence: str) -> str:
    """The README of a task."""
    corpus, split = workspace.corpus, workspace.split
    terms = reader_of(corpus.name).terms
    if not licence:
        licence = "this copy is for evaluation on one machine, and its audio may not be uploaded or passed on"
    terms = "; ".join(dict.fromkeys(filter(None, (terms, licence))))
    rows = "\n".join(f"| `{each.name}` | {each.rows} | {each.listeners} | {each.instructions} |" for each in written)
    left = written[0].left_out
    return f"""# {name}

People do not hear the same emotion in the same voice. This task asks for the label that one particular listener gives
to a clip, after clips that the same listener has labelled: personalisation in context, without training.

## Task Objective

Given a query clip and a few clips with one listener's labels, answer with that listener's label of the query. The twin
instance asks the very same queries without labelled clips: what a system gains from one to the other, query by query,
is what it has learned about the listener. An answer is one of the classes that the instruction names.

## Evaluation Results

| instance | rows | listeners | instructions |
|---|---:|---:|---:|
{rows}

Accuracy, the answer being the label. Queries to which the listener gave several labels are left out ({left} of them).
Floors are the most frequent of the labels that are shown, and a random class: `metaperser evaluate-task TASK
--responder majority` (or `random`) has their numbers, with intervals over listeners and the paired gain of the clips.

## Datasets

{corpus.name} ({terms}). Each listener's clips were drawn once, by seed, as frozen episodes of s3prl_metaperser
({split.scenario} utterances; labels {corpus.fingerprint()[:16]}).

## References

- Shen, Fang, Lin, Chou, Lee: Meta-PerSER: Few-shot listener personalized speech emotion recognition via meta-learning.
- Huang et al.: Dynamic-SUPERB Phase-2.
"""


def instance_page(name: str, shots: int, rows: int, listeners: int, instructions: int, terms: str, seed: int) -> str:
    """The README of an instance."""
    clips = "`audio` is the query; no clip is labelled."
    if shots:
        last = f" to `audio{shots + 1}`" if shots > 1 else ""
        clips = (
            f"`audio` is the query; `audio2`{last}: what the same listener has labelled, and the labels stand in\n"
            "`instruction`, and in `shown`, in that order."
        )
    return f"""# {name}

{rows} rows of {listeners} listener(s), {instructions} different instructions (paraphrases drawn with seed {seed}; every
class is named first equally often). {clips} `label` is the listener's label of the query.

Audio: {terms}.
"""


def upload_page(name: str, terms: str) -> str:
    """The card of the data set on the Hugging Face Hub."""
    return f"""---
configs:
- config_name: default
  data_files:
  - split: test
    path: data/test-*
---

# {name}

The data of the Dynamic-SUPERB instance `{name}`: one split, `test`. Audio: {terms}.
"""
