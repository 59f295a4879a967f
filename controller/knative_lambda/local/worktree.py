"""A folder of functions as a git repository: every state of it becomes a commit, without a commit by its owner.

The folder may be a working tree, a part of one, or no repository at all. Nothing is ever written into it: objects and
index are those of a bare repository of ours. Called by dev.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from knative_lambda.sources import gitcommand
from knative_lambda.sources.base import ANONYMOUS
from knative_lambda.sources.gitcommand import Answer, Limits, Running

BRANCH = "main"
EXCLUDED = (".git/", "node_modules/", "__pycache__/", "*.pyc", ".venv/", "venv/", ".idea/", ".vscode/", ".DS_Store")
"""Beside what the folder's own .gitignore names."""
SECONDS = 60.0
"""Limit of one git command."""
_AUTHOR = {
    "GIT_AUTHOR_NAME": "kn-lambda dev",
    "GIT_AUTHOR_EMAIL": "dev@localhost",
    "GIT_COMMITTER_NAME": "kn-lambda dev",
    "GIT_COMMITTER_EMAIL": "dev@localhost",
}


class WorkTreeError(Exception):
    """git cannot read the folder; the text is git's own."""


class WorkTree:
    """For one thread at a time."""

    def __init__(self, folder: Path, repository: Path, *, apart: Path) -> None:
        """`repository` is made where it is missing or broken, and kept from one start to the next.

        `apart` is a folder that is no part of it, wherever it lies.
        """
        self._folder = folder.resolve()
        self._apart = apart.resolve()
        self._repository = repository
        self._running = Running()
        self._proven = False

    @property
    def git_dir(self) -> Path:
        """Where the commits are."""
        return self._repository

    def commit(self) -> str:
        """The commit that holds the folder as it is now: the last one, if nothing changed. Raises WorkTreeError."""
        if not self._proven:
            self._unlock()
            try:
                self._committed()
            except WorkTreeError:
                self._proven = self._run(["fsck", "--connectivity-only"]).code == 0
                if self._proven:  # so it is the folder
                    raise
                shutil.rmtree(self._repository, ignore_errors=True)  # nothing is lost with it
        commit = self._committed()
        self._proven = True
        return commit

    def _committed(self) -> str:
        if not (self._repository / "HEAD").exists():
            self._initialize()
        self._exclude()
        self._git("add", "--all", "--", ".")
        tree = self._git("write-tree")
        last = self._head()
        if last and self._git("rev-parse", f"{last}^{{tree}}") == tree:
            return last
        parent = ["-p", last] if last else []
        commit = self._git("commit-tree", tree, *parent, "-m", "as saved")
        self._git("update-ref", f"refs/heads/{BRANCH}", commit)
        return commit

    def close(self) -> None:
        """Ends what runs."""
        self._running.end_all()

    def _unlock(self) -> None:
        """What a git left that was killed with a former process; nobody else works there now."""
        for lock in (*self._repository.glob("*.lock"), *self._repository.glob("refs/heads/*.lock")):
            lock.unlink()

    def _initialize(self) -> None:
        self._repository.parent.mkdir(parents=True, exist_ok=True)
        self._git("init", "--quiet", "--bare", "--template=", f"--initial-branch={BRANCH}")

    def _exclude(self) -> None:
        info = self._repository / "info"
        info.mkdir(exist_ok=True)
        excluded = list(EXCLUDED)
        if self._apart.is_relative_to(self._folder):
            excluded.append(f"/{self._apart.relative_to(self._folder).as_posix()}/")
        (info / "exclude").write_text("\n".join(excluded) + "\n")

    def _head(self) -> str:
        answer = self._run(["rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}"])
        return answer.out.strip() if answer.code == 0 else ""

    def _git(self, *arguments: str) -> str:
        answer = self._run(arguments)
        if answer.code != 0:
            raise WorkTreeError(f"git {arguments[0]}: {answer.err.strip() or answer.out.strip() or answer.code}")
        return answer.out.strip()

    def _run(self, arguments: Sequence[str]) -> Answer:
        """In the folder, with our own objects and index. The folder's `.git`, if there is one, takes no part."""
        places = {
            "GIT_DIR": str(self._repository.resolve()),
            "GIT_WORK_TREE": str(self._folder),
            "GIT_INDEX_FILE": str(self._repository.resolve() / "index"),
        }
        if arguments[0] == "init":
            places = {"GIT_DIR": str(self._repository.resolve())}
        with gitcommand.environment("", ANONYMOUS) as environment:
            where = ["-C", str(self._folder)]
            return gitcommand.run(
                self._running, [*where, *arguments], {**environment, **places, **_AUTHOR}, Limits(SECONDS)
            )
