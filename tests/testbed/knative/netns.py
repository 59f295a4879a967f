"""A private network namespace: what runs in it reaches loopback and one address of a Pod, and nothing else.

Knative's autoscaler dials the addresses of Pods, which may not be loopback ones. `command` gives what to put
before a program, this module run by name prepares the namespace and becomes that program. Called by session.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

from tests.testbed import assets
from tests.testbed.errors import Unavailable

POD_ADDRESS = "198.18.0.10"
"""The address of every Pod: of the range for benchmarks, which no network routes."""

_GET_FLAGS, _SET_FLAGS, _SET_ADDRESS = 0x8913, 0x8914, 0x8916  # ioctls of Linux's netdevice(7)
_UP = 0x1


def command() -> list[str]:
    """What to put before a program and its arguments, so that it runs inside. Raises Unavailable."""
    if shutil.which("unshare") is None:
        raise Unavailable("no `unshare` here (package util-linux, Linux only) to make a private network namespace with")
    refusals = []
    for options in (["--net"], ["--map-root-user", "--net"]):
        entry = ["unshare", *options, sys.executable, "-m", __name__]
        tried = subprocess.run(
            [*entry, "true"], cwd=assets.REPOSITORY_ROOT, capture_output=True, text=True, check=False, timeout=30
        )
        if tried.returncode == 0:
            return entry
        refusals.append(tried.stderr.strip().splitlines()[-1:])
    raise Unavailable(f"neither root nor user namespaces to make a private network namespace with: {refusals}")


def bring_up(*, address: str = "") -> None:
    """Switch on the namespace's loopback device, with one more address when it is given."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16xh22x", fcntl.ioctl(control, _GET_FLAGS, asked))[0]
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh22x", b"lo", flags | _UP))
        if address:
            given = struct.pack("16sH2x4s16x", b"lo:1", socket.AF_INET, socket.inet_aton(address))
            fcntl.ioctl(control, _SET_ADDRESS, given)


if __name__ == "__main__":
    bring_up(address=POD_ADDRESS)
    os.execvp(sys.argv[1], sys.argv[1:])  # nothing of this interpreter is left
