"""What an instance may write into its folder, all files together."""

from __future__ import annotations

import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from knative_lambda.local.serving import appetite, removal
from knative_lambda.local.serving.limits import Limits

LIMITS = Limits(memory=0, scratch=1 << 20, tasks=0)
HALF = b"0" * (1 << 19)


def test_files_are_counted_together_wherever_they_are(tmp_path: Path) -> None:
    below = tmp_path / "tmp" / "far" / "below"
    below.mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "one").write_bytes(HALF)
    assert appetite.excess(tmp_path, LIMITS) == ""
    (below / "two").write_bytes(HALF + HALF)
    assert appetite.excess(tmp_path, LIMITS) == "Evicted: has 1 MiB in HOME and TMPDIR, its limit is 1 MiB"


def test_a_hole_in_a_file_takes_no_room_and_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(HALF * 4)
    folder = tmp_path / "instance"
    folder.mkdir()
    (folder / "file").symlink_to(tmp_path / "elsewhere")
    (folder / "folder").symlink_to(tmp_path)
    with (folder / "holes").open("wb") as file:
        file.truncate(1 << 30)
    assert appetite.excess(folder, LIMITS) == ""


def test_many_empty_files_are_too_many(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / str(number)).touch()
    assert appetite.excess(tmp_path, LIMITS, files=11) == ""
    assert appetite.excess(tmp_path, LIMITS, files=10) == "Evicted: has more than 10 files in HOME and TMPDIR"


def test_a_look_ends_with_the_first_file_too_many(tmp_path: Path) -> None:
    """There may be millions of them in one folder, which must not all come into memory."""
    for number in range(5000):
        (tmp_path / str(number)).touch()
    tracemalloc.start()
    try:
        assert "more than 10 files" in appetite.excess(tmp_path, LIMITS, files=10)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.fixture
def folder_of_somebody() -> Iterator[Path]:
    """Who is not root, whom no rights hold."""
    if os.geteuid() == 0:
        os.seteuid(65_000)
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        os.seteuid(os.getuid())
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400], ids=["000", "300", "400"])
def test_what_is_hidden_is_a_verdict_and_can_be_removed(folder_of_somebody: Path, mode: int) -> None:
    hidden = folder_of_somebody / "home" / "hidden"
    (hidden / "below").mkdir(parents=True)
    (hidden / "file").write_bytes(HALF * 4)
    hidden.chmod(mode)
    said = appetite.excess(folder_of_somebody / "home", LIMITS)
    assert said == "Evicted: what it has in HOME and TMPDIR cannot be looked at: Permission denied"
    removal.remove(folder_of_somebody / "home")
    assert list(folder_of_somebody.iterdir()) == []


def test_a_file_whose_size_cannot_be_asked_for_is_a_verdict(folder_of_somebody: Path) -> None:
    hidden = folder_of_somebody / "hidden"
    hidden.mkdir()
    (hidden / "file").write_bytes(HALF * 4)
    hidden.chmod(0o400)
    assert "cannot be looked at: Permission denied" in appetite.excess(folder_of_somebody, LIMITS)


@pytest.mark.parametrize("depth", [10, 1500, 3000])
def test_folders_of_any_depth_are_removed_and_those_too_deep_to_look_at_are_a_verdict(
    tmp_path: Path, depth: int
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    folder = os.open(tmp_path / "home", os.O_RDONLY)
    for _ in range(depth):
        for name in ("d", "beside"):
            os.mkdir(name, dir_fd=folder)
        os.symlink(tmp_path / "elsewhere", "link", dir_fd=folder)
        above, folder = folder, os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(above)
    os.close(folder)
    too_deep = "Evicted: what it has in HOME and TMPDIR cannot be looked at: File name too long"
    assert appetite.excess(tmp_path / "home", LIMITS) == (too_deep if depth == 3000 else "")
    removal.remove(tmp_path / "home")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_the_pause_after_a_look_grows_with_the_look() -> None:
    pauses = [appetite.rest(took, least=0.5) for took in (0.0, 0.01, 0.1, 60.0)]
    assert pauses == [0.5, 0.5, 2.0, 10.0]


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert appetite.excess(tmp_path / "gone", LIMITS) == ""
