"""Few-shot, listener-personalised speech emotion recognition by meta-learning, as a plug-in for s3prl."""

__version__ = "0.1.0"
