"""What an instance prints, bounded."""

from __future__ import annotations

from pathlib import Path

from knative_lambda.local.serving.instance_log import MESSAGE_LIMIT, InstanceLog


def test_the_file_never_grows_beyond_its_limit_and_keeps_the_newest(tmp_path: Path) -> None:
    output = InstanceLog(tmp_path / "a" / "i.log", limit=1000)
    for number in range(500):
        output.write(f"line {number}\n".encode())
        assert sum(path.stat().st_size for path in (tmp_path / "a").iterdir()) <= 1000
    output.close()
    kept = (tmp_path / "a" / "i.log.1").read_bytes() + (tmp_path / "a" / "i.log").read_bytes()
    assert kept.endswith(b"line 498\nline 499\n")
    assert len(kept) > 500


def test_one_write_may_be_longer_than_all_that_is_kept(tmp_path: Path) -> None:
    output = InstanceLog(tmp_path / "i.log", limit=100)
    output.write(b"x" * 10_000 + b"\nthe end")
    output.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100
    assert output.tail().endswith("the end")


def test_a_log_that_is_there_goes_on(tmp_path: Path) -> None:
    (tmp_path / "i.log").write_bytes(b"before\n")
    output = InstanceLog(tmp_path / "i.log", limit=1000)
    output.write(b"after\n")
    output.close()
    assert (tmp_path / "i.log").read_bytes() == b"before\nafter\n"


def test_a_tail_is_short_and_tells_no_secret(tmp_path: Path) -> None:
    output = InstanceLog(tmp_path / "i.log", limit=1_000_000)
    output.write(b"long ago\n")
    output.write(b"y" * 20_000)
    output.write(b"\n\n\npassword=hunter2\nvalue \xff\x00\nlast line\n")
    output.close()
    tail = output.tail()
    assert len(tail) <= MESSAGE_LIMIT
    assert "hunter2" not in tail
    assert "long ago" not in tail
    assert tail.splitlines()[-2:] == ["value \N{REPLACEMENT CHARACTER}", "last line"]


def test_a_disk_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    output = InstanceLog(tmp_path / "file" / "i.log", limit=100)
    output.write(b"still known\n")
    assert output.tail() == "still known"
