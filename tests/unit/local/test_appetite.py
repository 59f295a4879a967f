"""What an instance may write into its folder, all files together."""

from __future__ import annotations

from pathlib import Path

from knative_lambda.local.serving import appetite
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


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert appetite.excess(tmp_path / "gone", LIMITS) == ""
