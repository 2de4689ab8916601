"""TensorBoard's events, written in the process's own thread and at once.

tensorboardX's SummaryWriter uses a thread: a killed process loses the last two minutes, and on a full disk the thread
dies and the process waits for it forever.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from s3prl_metaperser.storage.disk import writing


class Events:
    """A new event file in a folder.

    Args:
        first_step: the first value's step. TensorBoard hides values of earlier files from this step on: they come
            from a killed process, and those steps are repeated. Without it all stay.
    """

    def __init__(self, folder: Path, first_step: int | None):
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import RecordWriter

        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self._path, self._event = folder / name, event_pb2.Event
        with writing(self._path):
            self._file = RecordWriter(str(self._path))
            self._write(file_version="brain.Event:2")
            if first_step is not None:
                self._write(step=first_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def add(self, tag: str, value: float, step: int) -> None:
        """One finite value.

        Raises:
            CannotWrite: the disk is full, or the file may not be written.
        """
        from tensorboardX.summary import scalar

        with writing(self._path):
            self._write(step=step, summary=scalar(tag, value))

    def close(self) -> None:
        """Close the file, in which everything is already."""
        with writing(self._path):
            self._file.close()

    def _write(self, **content: Any) -> None:
        self._file.write(self._event(wall_time=time.time(), **content).SerializeToString())
        self._file.flush()
