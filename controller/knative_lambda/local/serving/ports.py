"""Ports for functions on loopback. Called by instance."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20_000, 32_767
"""Below the ports that Linux gives to outgoing connections, so that none of those is in the way a moment later."""
TRIES = 200


class Ports:
    """Hands out ports that are free now and that no other instance of ours has."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        """Raises OSError when it finds none."""
        for _ in range(TRIES):
            port = random.randint(FIRST, LAST)  # noqa: S311 - guards nothing
            if port not in self._taken and is_free(port):
                self._taken.add(port)
                return port
        raise OSError("there is no free port on 127.0.0.1 for one more function")

    def give_back(self, port: int) -> None:
        self._taken.discard(port)


def is_free(port: int) -> bool:
    """Whether a server could listen there; one that listens on all addresses is in the way, too."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
