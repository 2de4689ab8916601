"""To and from others: episodes as prompts, predictions of any system as results, benchmarks' tasks, publishing.

What comes in becomes the files that the rest of the house reads (a result, a corpus, ratings); what goes out is a
folder in another's form. No number is computed here that another room computes.
"""

from s3prl_metaperser.exchange.predictions import record, unanswered, with_audio

__all__ = ["record", "unanswered", "with_audio"]
