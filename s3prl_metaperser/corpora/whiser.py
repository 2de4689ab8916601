"""WHiSER, recordings of the White House tapes with their workers: MSP-Podcast's files of labels, audio in ``wavs/``."""

from s3prl_metaperser.corpora.msp_podcast import release_reader

READER = release_reader(
    "whiser",
    "WHiSER is given out by UT Dallas for non-commercial use only; ask there whether models trained on it may be "
    "shared",
    within="WHiSER",
)
