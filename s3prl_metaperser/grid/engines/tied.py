"""``python -m s3prl_metaperser.grid.engines.tied PID COMMAND ...``: the command, tied to the process PID that calls it.

It ends when that one does, however it ends, and can be interrupted even where a shell started all this in the
background, with SIGINT ignored.
"""

from __future__ import annotations

import os
import signal
import sys

from s3prl_metaperser.grid.engines.job import end_with_parent

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
