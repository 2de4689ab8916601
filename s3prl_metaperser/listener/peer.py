"""Whose process is at the other end of a connection: other users of the machine can reach 127.0.0.1, too."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

Address = tuple[str, int]

#: The system's table of connections, where it has one (Linux).
_TABLE = Path("/proc/self/net/tcp")
_ROOT = 0


def is_another_users(client: Address, server: Address) -> bool:
    """Whether a connection comes from a process of another user than this one's, root excepted.

    Where this process is root's the browser may well be another user's; what the system does not tell counts as ours.

    Args:
        client: address and port of the other end.
        server: of this end.
    """
    mine = os.getuid()
    return mine != _ROOT and user_behind(client, server) not in (mine, _ROOT, None)


def user_behind(client: Address, server: Address) -> int | None:
    """The user id of the process at the other end of a connection on this machine; None where that is not known."""
    wanted = [_as_in_table(client), _as_in_table(server)]
    try:
        lines = _TABLE.read_text().splitlines()[1:]
    except OSError:
        return None
    return next((int(fields[7]) for line in lines if (fields := line.split())[1:3] == wanted), None)


def _as_in_table(address: Address) -> str:
    """``0100007F:2203`` for 127.0.0.1:8707."""
    return f"{int.from_bytes(socket.inet_aton(address[0]), sys.byteorder):08X}:{address[1]:04X}"
