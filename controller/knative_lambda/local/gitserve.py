"""Smart HTTP for reading one git repository, on loopback: what `git http-backend` does for git-upload-pack.

So a folder on this host reaches gitsync and the builds by the way that every other repository takes. Pushing is not
served. Mounted by dev.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from knative_lambda.sources import gitcommand
from knative_lambda.sources.base import ANONYMOUS

SERVICE = "git-upload-pack"
REQUEST_LIMIT = 16 * 2**20
"""Bytes of what a client wants and has, unpacked."""
CHUNK = 64 * 1024
_SETTINGS = ("-c", "uploadpack.allowAnySHA1InWant=true", "-c", "safe.directory=*")
"""Functions are pinned to commits, which no ref may name any more."""


def routes(git_dir: Path, prefix: str = "/git/repository") -> list[BaseRoute]:
    """`prefix` is the path of the repository's URL."""

    async def advertise(request: Request) -> Response:
        if request.query_params.get("service") != SERVICE:
            return PlainTextResponse("this repository is only read\n", 403)
        head = f"# service={SERVICE}\n"
        start = f"{len(head) + 4:04x}{head}0000".encode()
        said = _said(git_dir, request, b"", advertise=True)
        return _answer(_after(start, said), "advertisement")

    async def upload(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return PlainTextResponse("the request is too large\n", 413)
        return _answer(_said(git_dir, request, body, advertise=False), "result")

    return [
        Route(f"{prefix}/info/refs", advertise, methods=["GET"]),
        Route(f"{prefix}/{SERVICE}", upload, methods=["POST"]),
    ]


def _answer(said: AsyncIterator[bytes], what: str) -> Response:
    return StreamingResponse(said, media_type=f"application/x-{SERVICE}-{what}", headers={"cache-control": "no-cache"})


async def _after(start: bytes, said: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for part in said:
        yield part


async def _body(request: Request) -> bytes | None:
    """Unpacked, for git packs long ones; None for more than anybody needs to say."""
    packed = request.headers.get("content-encoding") == "gzip"
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if packed else None
    body = b""
    async for part in request.stream():
        body += unpack.decompress(part, REQUEST_LIMIT) if unpack else part
        if len(body) >= REQUEST_LIMIT:
            return None
    return body


async def _said(git_dir: Path, request: Request, body: bytes, *, advertise: bool) -> AsyncIterator[bytes]:
    """What git answers, as it comes."""
    how = ["--stateless-rpc", *(["--advertise-refs"] if advertise else [])]
    with gitcommand.environment("", ANONYMOUS) as environment:
        protocol = {"GIT_PROTOCOL": request.headers.get("git-protocol", "")[:64]}
        process = await asyncio.create_subprocess_exec(
            "git", *_SETTINGS, "upload-pack", *how, str(git_dir),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**environment, **protocol},
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
                process.stdin.write(body)
                await process.stdin.drain()
            process.stdin.close()
            while part := await process.stdout.read(CHUNK):
                yield part
            await process.wait()
        finally:
            if process.returncode is None:  # whoever asked has gone
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
