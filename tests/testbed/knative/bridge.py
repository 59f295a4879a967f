"""Carries bytes between ports and unix sockets, which network namespaces share.

Every process of Knative opens port 8080, which is fixed in its code. Two of them therefore live in namespaces
of their own, nested in the bed's, and this bridge takes them to the API server and the API server to them:

    python -m tests.testbed.knative.bridge tcp:6443=unix:/run/api.sock
    unshare --net python -m tests.testbed.knative.bridge --nested tcp:6443=unix:/run/api.sock -- PROGRAM

Called by bed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from functools import partial

from tests.testbed.knative import netns

_CHUNK = 1 << 16


def main() -> int:
    """Serve until killed, or until the program ends; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nested", action="store_true", help="in a namespace of its own: switch on loopback first")
    parser.add_argument("routes", nargs="+", help="FROM=TO, each tcp:PORT on loopback or unix:PATH")
    own, program = _split(sys.argv[1:])
    asked = parser.parse_args(own)
    if asked.nested:
        netns.bring_up()
    return asyncio.run(_serve(asked.routes, program))


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


async def _serve(routes: list[str], program: list[str]) -> int:
    for route in routes:
        source, _, target = route.partition("=")
        await _listen(source, target)
    if not program:
        await asyncio.Event().wait()
    child = await asyncio.create_subprocess_exec(*program)
    return await child.wait()


async def _listen(source: str, target: str) -> None:
    kind, _, place = source.partition(":")
    carry = partial(_carry, target)
    if kind == "unix":
        await asyncio.start_unix_server(carry, place)
    else:
        await asyncio.start_server(carry, "127.0.0.1", int(place))


async def _carry(target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    kind, _, place = target.partition(":")
    try:
        if kind == "unix":
            inner, outer = await asyncio.open_unix_connection(place)
        else:
            inner, outer = await asyncio.open_connection("127.0.0.1", int(place))
    except OSError as refused:
        print(f"bridge: {target}: {refused}", file=sys.stderr, flush=True)
        writer.close()
        return
    await asyncio.gather(_pump(reader, outer), _pump(inner, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # either side may go at any time; the other one is told by the close
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(ConnectionError, OSError):
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
