"""s3prl imports ``DownstreamExpert`` from here; it lives in :mod:`s3prl_metaperser.expert`."""

from s3prl_metaperser.expert import DownstreamExpert
from s3prl_metaperser.registration import hand_over

__all__ = ["DownstreamExpert"]

hand_over()
