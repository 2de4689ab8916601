"""Is a corpus fit to train on? What is in it, per rater, and what is wrong with it, down to the audio."""

from __future__ import annotations

import functools
from collections import Counter

from s3prl_metaperser.corpora import CORPORA, reader_of
from s3prl_metaperser.corpora.audio import RATE, BadAudio, read_audio
from s3prl_metaperser.corpora.audio.levels import TELEPHONE_BAND
from s3prl_metaperser.corpora.base import FEWEST_RATERS, UNKNOWN_SPEAKER, Corpus, Ledger, Problem, Utterance
from s3prl_metaperser.corpora.card import Card
from s3prl_metaperser.corpora.contents import heard_hash
from s3prl_metaperser.corpora.emotions import ACTED, has_listeners
from s3prl_metaperser.corpora.published import compared, domains_compared, format_published
from s3prl_metaperser.errors import printable
from s3prl_metaperser.progress import tqdm

#: ``format_report`` lists so many problems of each kind; the report itself holds all.
LISTED = 20
#: File names and labels come from elsewhere: no control sequences reach the terminal.
_plain = functools.partial(printable, keep="")
EQUAL = (
    "it sounds as {} does: one recording under two names. Training refuses them where a split would take them for two "
    "(datarc.equal_audio)."
)
OTHER_LABEL = " Their labels differ: {} here, {} there."


def validation_report(corpus: Corpus, decode_audio: bool = True, progress: bool = True) -> dict:
    """What is in a corpus, what was left out, and what is wrong with it.

    A file that training could not use (missing, unreadable, truncated, empty, shorter than 25 ms, NaN or
    infinite samples, an impossible level, channels that cancel each other) is a serious problem. What is odd about
    a file that is read all the same is noted: silence, a dead channel, a size that its header does not know. Noted
    once each are a sampling rate other than 16000 Hz, more than one channel, and a telephone's band.

    Args:
        decode_audio: decode every audio file, rather than trust the headers that the reader saw.
        progress: show a progress bar on stderr meanwhile.

    Returns:
        Plain data, ready for JSON, with the keys

        - ``label_set``: what raters may answer (:meth:`.LabelSet.as_dict`)
        - ``utterances``, ``speakers``: how many; speakers 0 where the corpus names none
        - ``raters``: id -> ``{"utterances": n, "ticks": {class: n}}``
        - ``dropped``: reason -> how many were left out
        - ``domains``: of several corpora as one, the utterances of each beside the published ones
        - ``published``: of acted labels, what was published beside what was found (:func:`.published.compared`)
        - ``merged``: ``"label -> class"`` -> how many ticks the label set merged so
        - ``problems``: list of ``{"path": file or file:line, "what": text, "serious": bool}``
    """
    alike = [each for each in corpus.answers.all_alike() if each.certain or not corpus.drawn]
    problems = [*corpus.problems, *(Problem(str(corpus.root), str(each), each.certain) for each in alike)]
    if decode_audio:
        problems += _audio_problems(corpus, progress)
    card = _card(corpus)
    return {
        "label_set": corpus.label_set.as_dict(),
        **({"published": compared(corpus, card)} if card else {}),
        **({} if card or has_listeners(corpus) else {"domains": domains_compared(corpus)}),
        "utterances": len(corpus.utterances),
        "speakers": len({utterance.speaker for utterance in corpus.utterances} - {UNKNOWN_SPEAKER}),
        "raters": corpus.rater_summary(),
        "dropped": dict(corpus.dropped),
        "merged": dict(corpus.merged),
        "problems": [{"path": p.path, "what": p.what, "serious": p.serious} for p in problems],
    }


def _whose(corpus: Corpus) -> str:
    raters = corpus.raters()
    if has_listeners(corpus):
        return f"{len(raters)} raters"
    return "acted" if raters == [ACTED] else f"{len(raters)} corpora"


def _card(corpus: Corpus) -> Card | None:
    """The card of a corpus that was read with its acted labels."""
    known = CORPORA.knows(corpus.name) and corpus.raters() == [ACTED]
    return reader_of(corpus.name).card if known else None


def exit_status(report: dict) -> int:
    """1 where a problem is serious, else 0."""
    return int(any(problem["serious"] for problem in report["problems"]))


def format_report(corpus: Corpus, report: dict) -> str:
    """The report as text for a terminal."""
    blocks = [
        f"{_plain(corpus.name)} at {_plain(str(corpus.root))}: {report['utterances']} utterances, "
        f"{report['speakers'] or 'unknown'} speakers, {_whose(corpus)}\n"
        f"label set {_plain(str(corpus.label_set))}",
        *([format_published(report["published"])] if "published" in report else []),
        *([] if "published" in report else [_rater_table(corpus, report)]),
    ]
    for title, counted in (("Merged", report["merged"]), ("Left out", report["dropped"])):
        if counted:
            width = max(len(str(count)) for count in counted.values())
            lines = [f"  {count:>{width}}  {_plain(reason)}" for reason, count in counted.items()]
            blocks.append("\n".join([title, *lines]))
    for serious, title in ((True, "Serious problems"), (False, "Notes")):
        found = [problem for problem in report["problems"] if problem["serious"] == serious]
        lines = [f"  {_plain(problem['path'])}: {_plain(problem['what'])}" for problem in found[:LISTED]]
        if len(found) > LISTED:
            lines.append(f"  ... and {len(found) - LISTED} more")
        if found:
            blocks.append("\n".join([f"{title} ({len(found)})", *lines]))
    if not has_listeners(corpus):
        blocks.append("The labels are nobody's perception: one an utterance, and no raters to be personalised for.")
    elif len(report["raters"]) < FEWEST_RATERS:
        blocks.append(
            f"Too few raters to train on: at least {FEWEST_RATERS}, one to test, one to validate, one to train."
        )
    if exit_status(report):
        blocks.append("Not fit for training: fix the serious problems first.")
    else:
        blocks.append("No serious problems.")
    return "\n\n".join(blocks)


def _audio_problems(corpus: Corpus, progress: bool) -> list[Problem]:
    known = {problem.path for problem in corpus.problems}  # what the reader has already said is not said again
    found = Ledger()
    rates: Counter[int] = Counter()
    channels: Counter[int] = Counter()
    narrow: list[str] = []
    heard: dict[str, Utterance] = {}
    acted = {} if has_listeners(corpus) else {rating.utterance: rating.ticks for rating in corpus.ratings}
    for utterance in tqdm(corpus.utterances, desc="decoding", unit="file", disable=not progress):
        try:
            sound = read_audio(utterance.path)
        except BadAudio as fault:
            if fault.path not in known:
                found.problem(fault.path, fault.what)
            continue
        first = heard.setdefault(heard_hash(sound) or str(utterance.path), utterance)
        if first is not utterance:
            labels = [acted.get(each.id, ()) for each in (utterance, first)]
            differ = OTHER_LABEL.format(*map(", ".join, labels)) if labels[0] != labels[1] else ""
            found.note(utterance.path, EQUAL.format(first.path) + differ)
        rates[sound.rate] += 1
        channels[sound.channels] += 1
        narrow += [str(utterance.path)] if TELEPHONE_BAND in sound.notes else []
        for what in sound.notes:
            if what != TELEPHONE_BAND:
                found.note(utterance.path, what)
    readable = sum(rates.values())
    del rates[RATE], channels[1]
    if rates:
        found.note(corpus.root, f"sampling rate other than {RATE} Hz, will be resampled: {_files(rates, 'Hz')}.")
    if channels:
        mixed = f"more than one channel, will be down-mixed to mono: {_files(channels, 'channels')}."
        found.note(corpus.root, mixed)
    if narrow:
        found.note(corpus.root, f"{len(narrow)} of {readable} files hold {TELEPHONE_BAND[:-1]}, e.g. {narrow[0]}.")
    return found.problems


def _files(counts: Counter[int], unit: str) -> str:
    each = ", ".join(f"{count} with {value} {unit}" for value, count in sorted(counts.items()))
    total = sum(counts.values())
    return f"{total} {'file' if total == 1 else 'files'} ({each})"


def _rater_table(corpus: Corpus, report: dict) -> str:
    classes, domains = corpus.classes, report.get("domains", {})
    head = ["corpus", "utterances", *classes, "published"] if domains else ["rater", "utterances", *classes]
    rows = [
        [_plain(rater), str(entry["utterances"]), *(str(entry["ticks"][name]) for name in classes)]
        + ([str(domains[rater][1]) if rater in domains else "?"] if domains else [])
        for rater, entry in report["raters"].items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in [head, *rows]
    )
