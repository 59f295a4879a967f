"""Nothing is written outside the directory, and nothing through a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knative_lambda.sources import tree
from knative_lambda.sources.base import SourceError


@pytest.mark.parametrize(
    "path", ["../x", "a/../x", "/etc/passwd", "a//b", "", ".", "a/.", ".git/hooks/x", "a/.GIT/x", "a\\b", "a\0b"]
)
def test_a_path_that_could_lead_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(SourceError):
        tree.write_file(tmp_path / "root", path, b"x")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("link", "file", True),
        ("link", "a/b", True),
        ("link", "./a", True),
        ("a/link", "../file", True),
        ("a/b/link", "../../file", True),
        ("link", "../file", False),
        ("a/link", "../../file", False),
        ("link", "/etc/passwd", False),
        ("link", "", False),
        ("link", "a/../b", False),
        ("link", "a/../../b", False),
        ("a/link", "../b/../c", False),
        ("link", "..", False),
        ("link", ".", True),
    ],
)
def test_a_link_must_stay_inside(path: str, target: str, inside: bool) -> None:
    assert tree.stays_inside(path, target) is inside


def test_two_links_together_do_not_lead_out(tmp_path: Path) -> None:
    """`d -> .` stays inside, and so does `d/..` by its letters; together they would be the parent."""
    root = tmp_path / "root"
    root.mkdir()
    tree.write_link(root, "d", ".")
    with pytest.raises(SourceError, match="leads out"):
        tree.write_link(root, "e", "d/..")


def test_a_file_that_is_there_is_not_overwritten_even_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(SourceError):
        tree.write_file(root, "link", b"changed")
    assert outside.read_text() == "kept"


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    tree.write_file(tmp_path, "a", b"x")
    with pytest.raises(SourceError, match="both"):
        tree.write_file(tmp_path, "a/b", b"x")


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        tree.write_file(tmp_path, "a/plain", b"x")
        tree.write_file(tmp_path, "a/program", b"x", mode=tree.PROGRAM_MODE)
    finally:
        os.umask(before)
    modes = [oct((tmp_path / path).stat().st_mode & 0o777) for path in ("a", "a/plain", "a/program")]
    assert modes == ["0o755", "0o644", "0o755"]
