"""What is kept of a build's output, and what never is."""

from __future__ import annotations

import os
from pathlib import Path

from knative_lambda.api.meta import Key
from knative_lambda.local.building import build_log
from knative_lambda.local.building.build_log import TAIL_CHARACTERS, BuildLog


def test_tail_is_of_the_last_program_and_ends_with_its_last_line(tmp_path: Path) -> None:
    with BuildLog(tmp_path / "log") as log:
        log.feed(b"of the first\n")
        log.begin()
        log.feed(b"one\n\ntw")
        log.feed(b"o\nthree")
        assert log.tail() == "one\ntwo\nthree"


def test_noise_is_in_the_file_and_not_in_the_tail(tmp_path: Path) -> None:
    with BuildLog(tmp_path / "log") as log:
        log.begin(("Using Python ",))
        log.feed(b"Using Python 3.11 at: somewhere\nerror: no such package\n")
        assert log.tail() == "error: no such package"
    assert "Using Python 3.11" in (tmp_path / "log").read_text()


def test_secrets_are_masked_in_file_and_tail(tmp_path: Path) -> None:
    with BuildLog(tmp_path / "log") as log:
        log.feed(b"GET https://me:hunter2@index.example/simple\ntoken=abc")
        log.feed(b"def\n")
        told = log.tail()
    for text in (told, (tmp_path / "log").read_text()):
        assert "hunter2" not in text
        assert "abcdef" not in text
        assert "index.example" in text


def test_file_is_bounded_and_says_what_is_left_out(tmp_path: Path) -> None:
    with BuildLog(tmp_path / "log", limit=1000) as log:
        for number in range(10_000):
            log.feed(f"line {number}\n".encode())
    text = (tmp_path / "log").read_text()
    assert len(text) < 1000 + 2 * TAIL_CHARACTERS
    assert "bytes are left out" in text
    assert text.endswith("line 9999\n")


def test_line_without_an_end_is_cut(tmp_path: Path) -> None:
    with BuildLog(tmp_path / "log") as log:
        for _ in range(1000):
            log.feed(b"x" * 1000)
        assert len(log.tail()) <= TAIL_CHARACTERS


def test_oldest_logs_go_first(tmp_path: Path) -> None:
    files = [build_log.place(tmp_path, Key("tenant", f"job-{number}")) for number in range(5)]
    for age, file in enumerate(files):
        BuildLog(file).__exit__(None, None, None)
        os.utime(file, (age, age))
    build_log.prune(tmp_path, keep=2)
    assert sorted(file.name for file in tmp_path.glob("*/*.log")) == ["job-3.log", "job-4.log"]
