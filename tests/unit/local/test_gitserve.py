"""A git client against our smart HTTP."""

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from knative_lambda.local import gitserve
from knative_lambda.local.worktree import WorkTree
from knative_lambda.wiring import http
from knative_lambda.wiring.http import Listener


@pytest.fixture
def tree(tmp_path: Path) -> WorkTree:
    (tmp_path / "functions").mkdir()
    for number in range(300):
        (tmp_path / "functions" / f"{number}.py").write_text(f"x = {number}\n" * 200)
    return WorkTree(tmp_path / "functions", tmp_path / "repository.git", apart=tmp_path / "state")


@pytest.fixture
async def url(tree: WorkTree) -> AsyncIterator[str]:
    tree.commit()
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    served = Starlette(routes=gitserve.routes(tree.git_dir))
    task = asyncio.create_task(http.serve(Listener("git", "127.0.0.1", port), served, sock))
    yield f"http://127.0.0.1:{port}/git/repository"
    task.cancel()
    await asyncio.wait({task})


async def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, ["git", *arguments], check=False, capture_output=True, text=True, timeout=30
    )


async def test_clone_has_every_file(url: str, tmp_path: Path) -> None:
    answer = await git("clone", "--quiet", url, str(tmp_path / "clone"))
    assert answer.returncode == 0, answer.stderr
    assert len(list((tmp_path / "clone").glob("*.py"))) == 300


async def test_commit_that_no_ref_names_any_more_can_be_fetched(url: str, tree: WorkTree, tmp_path: Path) -> None:
    old = tree.commit()
    subprocess.run(["git", "--git-dir", str(tree.git_dir), "update-ref", "-d", "refs/heads/main"], check=True)
    await git("init", "--quiet", "--bare", str(tmp_path / "mirror"))
    answer = await git("--git-dir", str(tmp_path / "mirror"), "fetch", "--quiet", "--depth=1", url, old)
    assert answer.returncode == 0, answer.stderr


async def test_push_is_refused(url: str, tmp_path: Path) -> None:
    await git("clone", "--quiet", url, str(tmp_path / "clone"))
    answer = await git("-C", str(tmp_path / "clone"), "push", "origin", "HEAD:refs/heads/other")
    assert answer.returncode != 0
    assert "403" in answer.stderr


async def test_packed_flood_is_cut_off(url: str) -> None:
    flood = gzip.compress(b"0" * (gitserve.REQUEST_LIMIT * 4))
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{url}/git-upload-pack", content=flood, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413
