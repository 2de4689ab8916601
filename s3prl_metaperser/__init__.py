"""Few-shot, listener-personalised speech emotion recognition by meta-learning, as a plug-in for s3prl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer

__version__ = "0.1.0"
__all__ = ["PersonalizedEmotionRecognizer", "__version__"]


def __getattr__(name: str) -> Any:
    """The recogniser, imported when it is asked for: torch and s3prl take seconds, the package itself none."""
    if name == "PersonalizedEmotionRecognizer":
        from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer

        return PersonalizedEmotionRecognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
