"""Identities, copies and removal of whole folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knative_lambda.local.building import trees


def sample(root: Path) -> Path:
    (root / "below").mkdir(parents=True)
    (root / "main.py").write_text("code")
    (root / "below" / "link").symlink_to("../main.py")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    return root


def test_identity_is_the_contents_not_the_times(tmp_path: Path) -> None:
    one, two = sample(tmp_path / "one"), sample(tmp_path / "two")
    os.utime(two / "main.py", (1, 1))
    assert trees.identity(one) == trees.identity(two)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "main.py").write_text("kode"),
        lambda root: (root / "main.py").rename(root / "app.py"),
        lambda root: (root / "run").chmod(0o644),
        lambda root: (root / "empty").mkdir(),
        lambda root: (root / "other").symlink_to("main.py"),
    ],
)
def test_identity_changes_with_whatever_could_change_a_function(tmp_path: Path, change: object) -> None:
    before = trees.identity(sample(tmp_path))
    assert callable(change)
    change(tmp_path)
    assert trees.identity(tmp_path) != before


def test_names_and_contents_do_not_run_into_each_other(tmp_path: Path) -> None:
    for name, file, content in (("one", "a", "bc"), ("two", "ab", "c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(content)
    assert trees.identity(tmp_path / "one") != trees.identity(tmp_path / "two")


def test_linked_copy_costs_no_space_and_has_folders_of_its_own(tmp_path: Path) -> None:
    source = sample(tmp_path / "source")
    trees.protect(source)
    trees.linked_copy(source, tmp_path / "copy")
    assert trees.inodes(tmp_path / "copy").keys() == trees.inodes(source).keys()
    assert (tmp_path / "copy" / "below" / "link").is_symlink()
    (tmp_path / "copy" / "below" / "new").write_text("only here")
    assert not (source / "below" / "new").exists()


def test_replacing_a_path_leaves_the_linked_file_alone(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "pip").write_text("#!/old/place/bin/python\n")
    (tmp_path / "source" / "pip").chmod(0o755)
    trees.linked_copy(tmp_path / "source", tmp_path / "copy")
    trees.replaced(tmp_path / "copy" / "pip", Path("/old/place"), Path("/new"))
    assert (tmp_path / "copy" / "pip").read_text() == "#!/new/bin/python\n"
    assert os.access(tmp_path / "copy" / "pip", os.X_OK)
    assert (tmp_path / "source" / "pip").read_text() == "#!/old/place/bin/python\n"


def test_protected_files_cannot_be_written_and_can_be_removed(tmp_path: Path) -> None:
    root = sample(tmp_path / "root")
    trees.protect(root)
    modes = {path.name: path.stat().st_mode & 0o222 for path in (root / "main.py", root / "run", root / "below")}
    assert modes["main.py"] == modes["run"] == 0
    assert modes["below"] != 0  # what cannot be deleted with rm is a nuisance
    assert os.access(root / "run", os.X_OK)


def test_folders_that_nobody_may_write_into_are_removed_all_the_same(tmp_path: Path) -> None:
    root = sample(tmp_path / "root")
    for folder in (root / "below", root):
        folder.chmod(0o555)
    trees.remove(root)
    assert not root.exists()


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    trees.remove(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
