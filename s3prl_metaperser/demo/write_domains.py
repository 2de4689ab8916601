"""Writes the demo corpora: ten folders in ten real layouts, read by the readers of the corpora themselves.

What the synthesiser has said is kept in the cache by content, a corpus at a time: a run that was interrupted goes on
with the next one, and variants that share a plan share its sound.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from s3prl_metaperser.corpora.acted import emodb, emovo, ravdess, tess
from s3prl_metaperser.corpora.emotions import COMMON
from s3prl_metaperser.demo.channel import TONE_LEVEL, TONES, through
from s3prl_metaperser.demo.domain_ceilings import ceilings
from s3prl_metaperser.demo.domain_files import PLACES
from s3prl_metaperser.demo.domain_iemocap import write_summaries
from s3prl_metaperser.demo.domain_script import Spoken, script
from s3prl_metaperser.demo.domains import CUES, VARIANTS, Domain
from s3prl_metaperser.demo.draws import generator
from s3prl_metaperser.demo.rendering import render_speakers
from s3prl_metaperser.demo.voice import SAMPLE_RATE, write_wav
from s3prl_metaperser.demo.whole import check_numbers, made_whole, versions, write_card
from s3prl_metaperser.errors import unknown_name
from s3prl_metaperser.progress import tqdm
from s3prl_metaperser.storage.disk import new_folder
from s3prl_metaperser.storage.paths import cache_root
from s3prl_metaperser.storage.provenance import digest

#: Changes with anything that changes what the same seed gives.
RECIPE_VERSION = 1
#: The layouts have no names for more.
FEWEST, MOST = 20, 300
VOICES = "demo_voices"
#: Hz of the one file of TESS's that has another rate.
ODD_RATE = 96_000


def write_demo_corpora(
    folder: Path,
    variant: str = "shifted",
    *,
    seed: int = 0,
    utterances: int = 150,
    progress: bool = True,
    workers: int = 2,
    cache: Path | None = None,
) -> Path:
    """Write the ten corpora into ``folder``, each below its name, unless they are there already.

    The same seed gives the same bytes, whatever the number of workers (on one machine with one version of
    praat-parselmouth and NumPy). The folder is complete or absent.

    Args:
        folder: new, empty, or holding demo corpora of the same settings.
        variant: ``shifted``, ``identical`` or ``spurious`` (:data:`.domains.VARIANTS`).
        seed: of every draw.
        utterances: of each corpus, 20 to 300.
        progress: show a progress bar.
        workers: processes that synthesise at once.
        cache: where the voice is kept; by default the cache folder.

    Returns:
        ``folder``; :func:`roots` has the corpora's.

    Raises:
        UserError: a wrong argument, something else in ``folder``, or no praat-parselmouth.
    """
    if not isinstance(variant, str) or variant not in VARIANTS:
        raise unknown_name("variant of the demo corpora", variant, VARIANTS)
    check_numbers(seed, utterances, FEWEST, MOST)
    settings = {"recipe": RECIPE_VERSION, "seed": seed, "utterances": utterances, "variant": variant}

    def write(partial: Path) -> None:
        planned = {domain: script(domain, seed=seed, utterances=utterances) for domain in VARIANTS[variant][1]}
        voices = (cache or cache_root()) / VOICES
        sounds = _voiced(list(planned.values()), voices, progress=progress, workers=max(1, int(workers)))
        for (domain, spoken), place in zip(planned.items(), sounds, strict=True):
            _write_corpus(partial / domain.name, domain, spoken, place, seed=seed)
        write_card(partial, _card(settings, planned))

    return made_whole(Path(folder), settings, write)


def roots(folder: Path) -> dict[str, Path]:
    """Corpus -> its folder, of demo corpora in ``folder``."""
    return {domain.name: folder / domain.name for domain in next(iter(VARIANTS.values()))[1]}


def _voiced(plans: Sequence[Sequence[Spoken]], voices: Path, *, progress: bool, workers: int) -> list[Path]:
    """A folder for each plan with what the synthesiser makes of it; what is missing is made."""
    keys = [digest([[asdict(each.delivery) for each in plan], versions()])[:32] for plan in plans]
    missing = [number for number, key in enumerate(keys) if not (voices / key).is_dir()]
    total = sum(len(plans[number]) for number in missing)
    if not missing:
        return [voices / key for key in keys]
    voices.mkdir(parents=True, exist_ok=True)
    with (
        new_folder(voices / "voice") as partial,
        tqdm(total=total, desc="demo corpora", unit="utterance", disable=not progress) as bar,
    ):

        def keep(number: int) -> None:
            made, kept = partial / keys[missing[number]], voices / keys[missing[number]]
            try:
                os.replace(made, kept)
            except OSError:
                if not kept.is_dir():  # else another process was faster
                    raise

        deliveries = [
            [dataclasses.replace(s.delivery, path=f"{keys[n]}/{s.delivery.path}") for s in plans[n]] for n in missing
        ]
        render_speakers(deliveries, partial, workers=workers, done=bar.update, finished=keep)
    return [voices / key for key in keys]


def _write_corpus(folder: Path, domain: Domain, spoken: Sequence[Spoken], sounds: Path, *, seed: int) -> None:
    """The audio of one corpus in its layout, and its labels where names do not say them."""
    seconds = {}
    for number, each in enumerate(spoken):
        samples, _ = soundfile.read(sounds / each.delivery.path, dtype="int16")
        seconds[each.path] = len(samples) / SAMPLE_RATE
        draw = generator(seed, "channel", domain.name, each.path)
        channel = dataclasses.replace(domain, rate=ODD_RATE) if _odd_rate(domain, each) else domain
        heard = through(samples, channel, each.hum, draw)
        if domain.name == emovo.LAYOUT.name and number == 0:
            heard = np.stack([heard, heard], axis=1)  # one file in stereo
        write_wav(folder / each.path, heard, channel.rate)
    if domain.name == ravdess.LAYOUT.name:  # a tree within the tree, as far as one file
        again = folder / "audio_speech_actors_01-24" / spoken[0].path
        again.parent.mkdir(parents=True)
        shutil.copyfile(folder / spoken[0].path, again)
    if domain.name == emodb.LAYOUT.name:  # what a Mac leaves beside a file
        path = folder / spoken[0].path
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\26\7")
    if domain.name not in PLACES:
        write_summaries(folder, spoken, seconds, seed=seed)


def _odd_rate(domain: Domain, each: Spoken) -> bool:
    return domain.name == tess.LAYOUT.name and (each.speaker, each.emotion, each.take) == ("OAF", "fear", 0)


def _card(settings: dict, planned: Mapping[Domain, Sequence[Spoken]]) -> dict:
    """What is true of these corpora; everything in it is plain JSON and the same for the same settings."""
    return {
        "what": "Synthetic speech in the layouts of ten corpora of acted speech. No recording of a person; nothing in "
        "it is of the corpora whose names the folders have.",
        "settings": settings,
        "variant": VARIANTS[settings["variant"]][0],
        "emotions": list(COMMON),
        "cues": list(CUES),
        "tones": {"hertz": dict(zip(COMMON, TONES, strict=True)), "level": TONE_LEVEL},
        "turned": [domain.name for domain in planned if domain.turned],
        "versions": versions(),
        "ceilings": ceilings(planned),
        "corpora": {domain.name: _domain_card(domain, spoken) for domain, spoken in planned.items()},
    }


def _domain_card(domain: Domain, spoken: Sequence[Spoken]) -> dict:
    facts = asdict(domain)
    del facts["name"], facts["sentences"]
    intended = {each.path: each.emotion for each in spoken}
    return {**facts, "utterances": len(spoken), "intended": intended}
