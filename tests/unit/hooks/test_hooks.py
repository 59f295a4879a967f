"""The scripts that others copy, really run: git, openssl and curl against a receiver on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from knative_lambda.kit.clock import SystemClock
from tests.unit.receivers.loopback import served
from tests.unit.receivers.senders import FORGES, TOKEN
from tests.unit.receivers.stage import KEY, Stage

ROOT = Path(__file__).parents[3]
HOOKS = ROOT / "hooks"
SCRIPTS = ("pre-commit", "pre-push", "post-receive", "send-webhook.sh")
WHSEC = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
GIT = {
    "GIT_AUTHOR_NAME": "dev", "GIT_AUTHOR_EMAIL": "dev@example.com",
    "GIT_COMMITTER_NAME": "dev", "GIT_COMMITTER_EMAIL": "dev@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip
BARE_PATH = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin"))


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str


async def run(*command: str | Path, cwd: Path, path: str = BARE_PATH, **environment: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env={"PATH": path, "HOME": str(cwd), **GIT, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Done(process.returncode, out.decode())


async def git(*arguments: str, cwd: Path, path: str = BARE_PATH) -> str:
    done = await run("git", *arguments, cwd=cwd, path=path)
    assert done.code == 0, done.out
    return done.out


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """A PATH on which kn-lambda is this very package."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "kn-lambda"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "controller"}" exec "{sys.executable}" -m knative_lambda "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{BARE_PATH}"


@pytest_asyncio.fixture
async def copy(tmp_path: Path) -> Path:
    """A working copy with one good function in it, committed, and both client hooks."""
    folder = tmp_path / "copy"
    folder.mkdir()
    await git("init", "-q", "-b", "main", cwd=folder)
    write(folder, "good")
    await git("add", ".", cwd=folder)
    await git("commit", "-q", "-m", "first", cwd=folder)
    for name in ("pre-commit", "pre-push"):
        shutil.copy(HOOKS / name, folder / ".git" / "hooks" / name)
    return folder


def write(folder: Path, name: str, *, language: str = "python") -> None:
    target = folder / "functions" / name
    target.mkdir(parents=True, exist_ok=True)
    (target / "main.py").write_text("def handler(request):\n    return 'hello'\n")
    (target / "function.yaml").write_text(
        "apiVersion: lambda.knative.io/v1alpha1\nkind: LambdaFunction\n"
        f"metadata:\n  name: {Path(name).name}\nspec:\n  runtime:\n    language: {language}\n"
    )


# What can be checked without running.


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_posix_shell_and_executable(name: str) -> None:
    script = HOOKS / name
    assert script.read_text().startswith("#!/bin/sh\n")
    assert script.stat().st_mode & stat.S_IXUSR
    for shell in [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]:
        done = subprocess.run([shell, "-n", script], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def test_the_tools_that_these_tests_need_are_here() -> None:
    assert [tool for tool in ("sh", "git", "openssl", "curl", "od", "tar") if shutil.which(tool) is None] == []


def test_pre_commit_accepts_the_manifest_and_the_hook_runs_this_command() -> None:
    manifest = ROOT / ".pre-commit-hooks.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-manifest", manifest], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (hook,) = yaml.safe_load(manifest.read_text())
    assert (hook["id"], hook["entry"], hook["args"]) == ("kn-lambda-validate", "kn-lambda validate", ["."])


def test_every_forge_has_a_sample_and_every_ci_snippet_validates() -> None:
    for forge in FORGES:
        assert json.loads((HOOKS / "samples" / f"{forge}.json").read_text())
        assert "Content-Type: application/json" in (HOOKS / "samples" / f"{forge}.headers").read_text()
    github = yaml.safe_load((HOOKS / "ci" / "github-actions.yaml").read_text())
    gitlab = yaml.safe_load((HOOKS / "ci" / "gitlab-ci.yaml").read_text())
    assert github["jobs"]["validate"]["steps"][-1]["run"] == gitlab["functions"]["script"][0] == "kn-lambda validate ."


# pre-commit and pre-push.


@pytest.mark.parametrize(("hook", "command"), [("pre-commit", "commit"), ("pre-push", "push")])
async def test_a_missing_tool_is_said_plainly(copy: Path, hook: str, command: str) -> None:
    done = await run(HOOKS / hook, cwd=copy)
    assert done.code == 1
    assert "kn-lambda is not on PATH" in done.out
    assert f"{command} with --no-verify" in done.out


async def test_a_commit_of_a_broken_function_is_refused_with_its_place(copy: Path, tools: str) -> None:
    write(copy, "broken", language="cobol")
    await git("add", ".", cwd=copy)
    done = await run("git", "commit", "-m", "second", cwd=copy, path=tools)
    assert done.code != 0
    assert "functions/broken/function.yaml:7" in done.out
    write(copy, "broken")
    await git("add", ".", cwd=copy)
    done = await run("git", "commit", "-m", "second", cwd=copy, path=tools)
    assert done.code == 0, done.out
    assert "1 function valid" in done.out


async def test_a_commit_looks_only_at_what_it_touches(copy: Path, tools: str) -> None:
    write(copy, "broken", language="cobol")
    write(copy, "with space/and ünïcode")
    (copy / "README.md").write_text("words")
    await git("add", "README.md", cwd=copy)
    done = await run("git", "commit", "-m", "words", cwd=copy, path=tools)
    assert done.code == 0, done.out
    assert "valid" not in done.out
    (copy / "functions" / "good" / "main.py").unlink()
    await git("add", "functions/good", cwd=copy)
    done = await run("git", "commit", "-m", "a handler goes", cwd=copy, path=tools)
    assert done.code != 0
    assert "functions/good" in done.out
    assert "broken" not in done.out


async def test_a_commit_of_a_plain_manifest_is_checked(copy: Path, tools: str) -> None:
    manifest = copy / "functions" / "plain.yaml"
    manifest.write_text("apiVersion: lambda.knative.io/v1alpha1\nkind: LambdaFunction\nspec: 7\n")
    await git("add", ".", cwd=copy)
    done = await run("git", "commit", "-m", "plain", cwd=copy, path=tools)
    assert done.code != 0
    assert "functions/plain.yaml" in done.out


async def test_a_push_looks_at_the_commits_and_not_at_the_working_tree(copy: Path, tools: str, tmp_path: Path) -> None:
    await git("init", "-q", "--bare", str(tmp_path / "bare"), cwd=tmp_path)
    await git("remote", "add", "origin", str(tmp_path / "bare"), cwd=copy)
    write(copy, "broken", language="cobol")
    done = await run("git", "push", "origin", "main", cwd=copy, path=tools)
    assert done.code == 0, done.out
    await git("add", ".", cwd=copy)
    await git("commit", "-q", "--no-verify", "-m", "broken", cwd=copy)
    write(copy, "broken")
    done = await run("git", "push", "origin", "main", cwd=copy, path=tools)
    assert done.code != 0
    assert "functions/broken/function.yaml:7" in done.out
    assert "refs/heads/main is not pushed" in done.out
    assert str(tmp_path / "copy") not in done.out
    done = await run("git", "push", "origin", ":main", cwd=copy, path=tools)
    assert "kn-lambda" not in done.out


async def test_a_push_of_a_repository_without_functions_goes_through(tmp_path: Path, tools: str) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    await git("init", "-q", "-b", "main", cwd=folder)
    (folder / "README.md").write_text("words")
    await git("add", ".", cwd=folder)
    await git("commit", "-q", "-m", "words", cwd=folder)
    shutil.copy(HOOKS / "pre-push", folder / ".git" / "hooks" / "pre-push")
    await git("init", "-q", "--bare", str(tmp_path / "bare"), cwd=tmp_path)
    done = await run("git", "push", str(tmp_path / "bare"), "main", cwd=folder, path=tools)
    assert done.code == 0, done.out


# send-webhook.sh and post-receive.


@dataclass(frozen=True, slots=True)
class Receiver:
    stage: Stage
    url: str
    secret_file: Path


@pytest_asyncio.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    stage = Stage(clock=SystemClock())
    await stage.secret()
    secret_file = tmp_path / "token.txt"
    secret_file.write_text(f"{TOKEN}\n")
    async with served(stage.app) as port:
        yield Receiver(stage, f"http://127.0.0.1:{port}{stage.path}", secret_file)


async def send(receiver: Receiver, *more: str | Path, cwd: Path) -> Done:
    return await run(
        HOOKS / "send-webhook.sh", "--url", receiver.url, "--secret-file", receiver.secret_file, *more, cwd=cwd
    )


@pytest.mark.parametrize("forge", [*FORGES, "gitlab-token"])
async def test_the_script_signs_as_each_forge_does(receiver: Receiver, tmp_path: Path, forge: str) -> None:
    done = await send(receiver, "--forge", forge, cwd=tmp_path)
    assert (done.code, done.out.partition(" ")[0]) == (0, "202"), done.out
    assert receiver.stage.asked == [KEY]
    assert receiver.stage.world.counts.deliveries[forge.removesuffix("-token"), "accepted"] == 1


@pytest.mark.parametrize("token", ["x", "y" * 63, "z" * 64, "l" * 65, "ü€ %s \\n $(id)", "0" * 300])
async def test_the_script_signs_with_any_secret(receiver: Receiver, tmp_path: Path, token: str) -> None:
    await receiver.stage.secret(token)
    receiver.secret_file.write_text(token)
    done = await send(receiver, cwd=tmp_path)
    assert done.code == 0, done.out


async def test_the_script_signs_with_gitlabs_signing_secret(receiver: Receiver, tmp_path: Path) -> None:
    await receiver.stage.secret(WHSEC)
    receiver.secret_file.write_text(WHSEC)
    done = await send(receiver, "--forge", "gitlab", cwd=tmp_path)
    assert done.code == 0, done.out


async def test_a_wrong_secret_or_a_wrong_use_is_said_by_exit_code(receiver: Receiver, tmp_path: Path) -> None:
    receiver.secret_file.write_text("guess")
    done = await send(receiver, cwd=tmp_path)
    assert (done.code, done.out) == (22, "404 Not Found\n")
    assert receiver.stage.asked == []
    for arguments, words in (
        ((), "--url"),
        (("--url",), "needs a value"),
        (("--url", "http://127.0.0.1:1/"), "--secret-file"),
        (("--what", "x"), "unknown option"),
    ):
        done = await run(HOOKS / "send-webhook.sh", *arguments, cwd=tmp_path)
        assert done.code == 64
        assert words in done.out


async def test_no_process_is_started_with_the_secret_as_an_argument(receiver: Receiver, tmp_path: Path) -> None:
    """openssl and curl write down how they were called."""
    folder = tmp_path / "watched"
    folder.mkdir()
    for tool in ("openssl", "curl", "od", "cat", "sed"):
        (folder / tool).write_text(
            f'#!/bin/sh\nprintf "%s " "{tool}" "$@" >>"{tmp_path}/calls"\nexec /usr/bin/{tool} "$@"\n'
        )
        (folder / tool).chmod(0o755)
    script = (HOOKS / "send-webhook.sh", "--url", receiver.url, "--secret-file", receiver.secret_file)
    for forge in ("generic", "gitlab-token"):
        done = await run(*script, "--forge", forge, cwd=tmp_path, path=f"{folder}{os.pathsep}{BARE_PATH}")
        assert done.code == 0, done.out
    calls = (tmp_path / "calls").read_text()
    assert "openssl dgst" in calls
    assert TOKEN not in calls


@pytest_asyncio.fixture
async def bare(tmp_path: Path, receiver: Receiver) -> Path:
    """A bare repository with our hook, and who to call."""
    folder = tmp_path / "bare"
    await git("init", "-q", "--bare", "-b", "main", str(folder), cwd=tmp_path)
    for name in ("post-receive", "send-webhook.sh"):
        shutil.copy(HOOKS / name, folder / "hooks" / name)
    await git("config", "lambda.webhookUrl", receiver.url, cwd=folder)
    await git("config", "lambda.webhookSecretFile", str(receiver.secret_file), cwd=folder)
    return folder


async def test_a_push_to_a_bare_repository_reaches_the_receiver(receiver: Receiver, copy: Path, bare: Path) -> None:
    done = await run("git", "push", "--no-verify", str(bare), "main", cwd=copy)
    assert done.code == 0
    assert "refs/heads/main: 202" in done.out
    assert receiver.stage.asked == [KEY]


async def test_other_branches_tags_and_deletions_are_told_and_ignored(
    receiver: Receiver, copy: Path, bare: Path
) -> None:
    await git("branch", 'we"ird', cwd=copy)
    await git("tag", "v1", cwd=copy)
    refs = ['refs/heads/we"ird', "v1"]
    done = await run("git", "push", "--no-verify", str(bare), *refs, cwd=copy)
    assert done.out.count("202 ") == 2, done.out
    done = await run("git", "push", "--no-verify", str(bare), "--delete", "v1", cwd=copy)
    assert "202 " in done.out
    assert receiver.stage.asked == []
    assert receiver.stage.world.counts.deliveries["generic", "ignored"] == 3


async def test_a_receiver_that_cannot_be_reached_costs_a_warning_and_no_push(copy: Path, bare: Path) -> None:
    await git("config", "lambda.webhookUrl", "http://127.0.0.1:1/hook/x", cwd=bare)
    done = await run("git", "push", "--no-verify", str(bare), "main", cwd=copy)
    assert done.code == 0
    assert "could not be told" in done.out
    assert "spec.interval" in done.out
    await git("config", "--unset", "lambda.webhookUrl", cwd=bare)
    done = await run("git", "push", "--no-verify", str(bare), "main:more", cwd=copy)
    assert done.code == 0
    assert "set lambda.webhookUrl" in done.out
