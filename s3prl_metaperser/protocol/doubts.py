"""What may leak through a split all the same: raters that are no second person, speakers on both sides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from s3prl_metaperser.corpora.alike import Alike, Answers
from s3prl_metaperser.corpora.base import UNKNOWN_SPEAKER, Corpus
from s3prl_metaperser.errors import UserError, listed

_SHOWN = 5


def doubtful_raters(corpus: Corpus, roles: Mapping[str, Sequence[str]], answers: Answers, *, allow: bool) -> list[str]:
    """Raters that may be a held-out rater under another name, or a vote that holds held-out answers.

    Args:
        roles: ``train``, ``validation`` and ``test`` -> raters.
        answers: of the corpus, perhaps with equal recordings taken for one.
        allow: list those that are certain, too.

    Raises:
        UserError: one is certain.
    """
    role_of = {rater: role for role, raters in roles.items() for rater in raters}
    held_out = [*roles["test"], *roles["validation"]]
    found: dict[frozenset[str], Alike] = {}
    for rater in held_out:
        for alike in answers.doubles_of(rater):
            if role_of.get(alike.other, role_of[rater]) != role_of[rater]:
                found.setdefault(frozenset((rater, alike.other)), alike)
    doubtful = [*found.values(), *(vote for vote in answers.votes if vote.rater in role_of)]
    if corpus.drawn:  # whoever shares a table answers alike
        doubtful = [alike for alike in doubtful if alike.certain]
    certain = [alike for alike in doubtful if alike.certain]
    if certain and not allow:
        guests = [name for alike in certain for name in (alike.other or alike.rater, alike.rater)]
        others = sorted({name for name in guests if name not in held_out}) or guests[:1]
        shown = "\n  ".join(map(str, certain[:_SHOWN]))
        raise UserError(
            f"Answers of raters who are held out would reach training in corpus {corpus.name!r}:\n  {shown}\n"
            f"Leave out what is no other person (datarc.exclude_raters: [{', '.join(others[:_SHOWN])}]), or set "
            "datarc.equal_raters to 'allow' if they are different people."
        )
    return list(map(str, doubtful))


def speakers_on_both_sides(corpus: Corpus, learned: Collection[str], tested: Collection[str]) -> list[str]:
    """A line where new sessions are tested on and their speakers are not new.

    Args:
        learned: utterances of training and validation.
        tested: those that are tested on.
    """
    speaker = {u.id: u.speaker for u in corpus.utterances}
    there = {speaker[utterance] for utterance in learned}
    known = sorted({speaker[utterance] for utterance in tested} & there)
    if not known:
        return []
    if known == [UNKNOWN_SPEAKER]:
        return ["it is not known who speaks (files.csv names no speakers): those of the test sessions may train, too"]
    count = sum(speaker[utterance] in there for utterance in tested)
    return [
        f"the sessions are unseen, speakers are not: {count} of {len(tested)} tested utterances are by speakers of the "
        f"training sessions ({listed(known, _SHOWN)})"
    ]
