"""One rater of a corpus as a listener: a folder of clips, some of them labelled, the rest to test on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.corpora import Corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import episode_scores
from s3prl_metaperser.listener.labels import ListenerLabels, answer_text
from s3prl_metaperser.seeding import numpy_generator
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.csv_text import csv_text

if TYPE_CHECKING:
    from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer


@dataclass(frozen=True)
class OneRater:
    """What was written.

    Attributes:
        rater: whose answers they are.
        clips: a folder with every clip that the rater answered, in ``labelled`` and ``others``.
        ratings: ``file,rater,label`` of the labelled ones, beside them.
        rest: clips that are not labelled.
        answers: the rater's to these.
    """

    rater: str
    clips: Path
    ratings: Path
    rest: tuple[Path, ...]
    answers: ListenerLabels

    @classmethod
    def write(cls, corpus: Corpus, rater: str, folder: Path, labelled: int) -> OneRater:
        """Copy a rater's clips, and write down the answers to some of them.

        Which are labelled is drawn, the same every time; what is there already is written again.

        Args:
            folder: gets the clips.
            labelled: K.

        Raises:
            UserError: the rater has no more answers than that.
        """
        given = {corpus.utterance(rating.utterance).path: rating.answer for rating in corpus.all_of(rater)}
        if len(given) <= labelled:
            raise UserError(f"{rater} rated {len(given)} clips, which leaves none to test beside {labelled} labelled.")
        paths = sorted(given)
        order = numpy_generator("one rater", rater, labelled).permutation(len(paths))
        known, rest = ([paths[i] for i in sorted(part)] for part in (order[:labelled], order[labelled:]))
        for name, part in (("labelled", known), ("others", rest)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for path in part:
                shutil.copyfile(path, folder / name / path.name)
        ratings = folder / "labelled" / "labels.csv"
        rows = [("file", "rater", "label"), *((path.name, rater, answer_text(given[path])) for path in known)]
        write_text(ratings, csv_text(rows))
        answers = ListenerLabels(corpus.label_set, tuple(given[path] for path in rest))
        return cls(rater, folder, ratings, tuple(folder / "others" / path.name for path in rest), answers)

    def scores(self, recognizer: PersonalizedEmotionRecognizer) -> dict[str, float]:
        """Every metric of a recogniser's predictions for the clips that were not labelled."""
        return episode_scores(recognizer.predict_proba(self.rest), self.answers.counts, self.answers.label_set)
