"""A folder as a repository: what becomes a commit, and what does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from knative_lambda.local.worktree import WorkTree, WorkTreeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "functions"
    (made / "hello").mkdir(parents=True)
    (made / "hello" / "main.py").write_text("def handler(request):\n    return 1\n")
    return made


@pytest.fixture
def tree(folder: Path, tmp_path: Path) -> WorkTree:
    return WorkTree(folder, tmp_path / "state" / "repository.git", apart=tmp_path / "state")


def files(tree: WorkTree, commit: str) -> list[str]:
    command = ["git", "--git-dir", str(tree.git_dir), "ls-tree", "-r", "--name-only", commit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_unchanged_folder_keeps_its_commit(tree: WorkTree) -> None:
    assert tree.commit() == tree.commit()


def test_save_is_a_commit_upon_the_last(tree: WorkTree, folder: Path) -> None:
    first = tree.commit()
    (folder / "hello" / "main.py").write_text("def handler(request):\n    return 2\n")
    second = tree.commit()
    log = ["git", "--git-dir", str(tree.git_dir), "rev-list", second]
    assert subprocess.run(log, check=True, capture_output=True, text=True).stdout.split() == [second, first]


def test_deleted_file_is_in_no_later_commit(tree: WorkTree, folder: Path) -> None:
    (folder / "hello" / "old.py").write_text("")
    assert "hello/old.py" in files(tree, tree.commit())
    (folder / "hello" / "old.py").unlink()
    assert files(tree, tree.commit()) == ["hello/main.py"]


def test_what_is_ignored_or_installed_is_left_out(tree: WorkTree, folder: Path) -> None:
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "debug.log").write_text("noise")
    (folder / "hello" / "node_modules" / "left-pad").mkdir(parents=True)
    (folder / "hello" / "node_modules" / "left-pad" / "index.js").write_text("")
    (folder / "hello" / "__pycache__").mkdir()
    (folder / "hello" / "__pycache__" / "main.cpython-311.pyc").write_text("")
    assert files(tree, tree.commit()) == [".gitignore", "hello/main.py"]


def test_repository_of_the_owner_is_not_written(tree: WorkTree, folder: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    before = sorted(str(path) for path in (folder / ".git").rglob("*"))
    commit = tree.commit()
    assert files(tree, commit) == ["hello/main.py"]
    assert sorted(str(path) for path in (folder / ".git").rglob("*")) == before


def test_next_start_goes_on_from_the_last_commit(tree: WorkTree, folder: Path) -> None:
    commit = tree.commit()
    assert WorkTree(folder, tree.git_dir, apart=tree.git_dir.parent).commit() == commit


def test_folder_that_is_gone_is_told_in_gits_words(tmp_path: Path) -> None:
    with pytest.raises(WorkTreeError, match="cannot change to"):
        WorkTree(tmp_path / "nowhere", tmp_path / "repository.git", apart=tmp_path / "state").commit()


@pytest.mark.parametrize("lock", ["index.lock", "HEAD.lock", "refs/heads/main.lock"])
def test_lock_that_a_killed_git_left_is_no_trouble_for_the_next_start(
    tree: WorkTree, folder: Path, tmp_path: Path, lock: str
) -> None:
    first = tree.commit()
    (tree.git_dir / lock).touch()
    (folder / "hello" / "main.py").write_text("def handler(request):\n    return 2\n")
    again = WorkTree(folder, tree.git_dir, apart=tree.git_dir.parent).commit()
    log = ["git", "--git-dir", str(tree.git_dir), "rev-list", again]
    assert subprocess.run(log, check=True, capture_output=True, text=True).stdout.split() == [again, first]


@pytest.mark.parametrize("broken", ["index", "HEAD", "refs/heads/main", "config"])
def test_repository_that_is_broken_is_made_anew(tree: WorkTree, folder: Path, broken: str) -> None:
    tree.commit()
    (tree.git_dir / broken).write_text("broken")
    again = WorkTree(folder, tree.git_dir, apart=tree.git_dir.parent)
    assert files(again, again.commit()) == ["hello/main.py"]


def test_repository_is_kept_when_the_folder_is_what_is_broken(tree: WorkTree, folder: Path) -> None:
    tree.commit()
    (folder / "more.txt").write_text("")
    last = tree.commit()  # with a parent, which a repository made anew would not have
    inner = folder / "inner"
    subprocess.run(["git", "init", "--quiet", str(inner)], check=True)
    again = WorkTree(folder, tree.git_dir, apart=tree.git_dir.parent)
    with pytest.raises(WorkTreeError, match="does not have a commit"):
        again.commit()
    inner.rename(folder.parent / "elsewhere")
    assert again.commit() == last


def test_our_own_state_is_no_part_of_the_folder_in_which_it_lies(folder: Path) -> None:
    state = folder / "hello" / ".state"
    tree = WorkTree(folder, state / "repository.git", apart=state)
    first = tree.commit()
    assert files(tree, first) == ["hello/main.py"]
    assert tree.commit() == first
