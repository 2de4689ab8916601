"""s3prl imports ``DownstreamExpert`` from here; it lives in :mod:`s3prl_metaperser.s3prl_plugin.domain_expert`."""

from s3prl_metaperser.s3prl_plugin.domain_expert import DownstreamExpert
from s3prl_metaperser.s3prl_plugin.registration import hand_over

__all__ = ["DownstreamExpert"]

hand_over()
