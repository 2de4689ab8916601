"""``metaperser validate --all``: results read again, and everything checked that must be true of them.

:mod:`.one` checks a file by itself, :mod:`.together` files that are compared with each other,
:mod:`.labels` a file against the corpus that it speaks of.
"""

from s3prl_metaperser.audit.folder import Audit, audit

__all__ = ["Audit", "audit"]
