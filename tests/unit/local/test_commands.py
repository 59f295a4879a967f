"""One program of a build: its environment, its limits, and that nothing of it is left."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from knative_lambda.kit.clock import SystemClock
from knative_lambda.local.building import commands
from knative_lambda.local.building.build_log import BuildLog
from knative_lambda.local.building.commands import Command, CommandFailed, Expired, Stopped, Terms, run

from .workbench import BARE

TermsOf = Callable[..., Terms]


@pytest.fixture
def terms(tmp_path: Path) -> Iterator[TermsOf]:
    """Terms of so many seconds, with a log in the test's folder."""
    with BuildLog(tmp_path / "log") as log:
        yield lambda seconds=30: Terms(log, SystemClock(), time.monotonic() + seconds)


def python(code: str, folder: Path, **more: int) -> Command:
    return Command("tool", [sys.executable, "-I", "-c", code], folder, BARE, **more)


def gone(pid: int, *, within: float = 20.0) -> bool:
    until = time.monotonic() + within
    try:
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return True
    return True


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """A file with a pid per line; whoever is still there after the test is ended."""
    file = tmp_path / "pids"
    file.touch()
    yield file
    for pid in map(int, file.read_text().split()):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


FORKS = """
import os, subprocess, sys, time
write = lambda: os.write(os.open({pids!r}, os.O_WRONLY | os.O_APPEND), b"%d\\n" % os.getpid())
write()
if os.fork() == 0:
    os.setsid()  # leaves the process group
    write()
    time.sleep({sleep})
while len(open({pids!r}).read().split()) < 2:
    time.sleep(0.01)
{then}
"""


def forking(pids: Path, then: str) -> str:
    return FORKS.format(pids=str(pids), sleep=60, then=then)


def test_command_that_works_says_nothing_and_its_output_is_kept(tmp_path: Path, terms: TermsOf) -> None:
    given = terms()
    run(python("print('done')", tmp_path), given)
    assert given.log.tail() == "done"


def test_failing_command_is_told_by_its_last_lines_and_its_code(tmp_path: Path, terms: TermsOf) -> None:
    with pytest.raises(CommandFailed) as caught:
        run(python("print('why'); raise SystemExit(3)", tmp_path), terms())
    assert (caught.value.tool, caught.value.code, caught.value.message) == ("tool", 3, "why")


def test_command_that_is_not_there_says_so(tmp_path: Path, terms: TermsOf) -> None:
    with pytest.raises(CommandFailed) as caught:
        run(Command("tool", [str(tmp_path / "absent")], tmp_path, BARE), terms())
    assert caught.value.code == 127
    assert "No such file" in caught.value.message


def test_command_that_is_killed_has_a_shells_code(tmp_path: Path, terms: TermsOf) -> None:
    with pytest.raises(CommandFailed) as caught:
        run(python("import os; os.kill(os.getpid(), 9)", tmp_path), terms())
    assert caught.value.code == 137


def test_command_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, terms: TermsOf, pids: Path
) -> None:
    with pytest.raises(Expired):
        run(python(forking(pids, "time.sleep(60)"), tmp_path), terms(1))
    assert len(pids.read_text().split()) == 2
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_command_that_is_not_wanted_any_more_is_ended(tmp_path: Path, terms: TermsOf, pids: Path) -> None:
    given = terms()
    threading.Timer(0.5, given.stop.set).start()
    with pytest.raises(Stopped):
        run(python(forking(pids, "time.sleep(60)"), tmp_path), given)
    assert all(gone(int(pid)) for pid in pids.read_text().split())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans can be found on Linux only")
def test_what_a_command_leaves_in_the_background_ends_with_it(tmp_path: Path, terms: TermsOf, pids: Path) -> None:
    run(python(forking(pids, "raise SystemExit(0)"), tmp_path), terms())
    assert len(pids.read_text().split()) == 2
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_command_that_prints_too_much_is_ended(tmp_path: Path, terms: TermsOf) -> None:
    endless = python("while True: print('x' * 1000)", tmp_path, output_limit=2**20)
    with pytest.raises(CommandFailed, match="printed more than 1 MiB and was ended"):
        run(endless, terms())
    assert (tmp_path / "log").stat().st_size < 2 * 2**20


def test_command_that_closes_its_output_and_goes_on_is_ended_in_time(tmp_path: Path, terms: TermsOf) -> None:
    with pytest.raises(Expired):
        run(python("import os, time; os.close(1); os.close(2); time.sleep(60)", tmp_path), terms(0.5))


def test_command_that_is_begun_after_the_deadline_never_starts(tmp_path: Path, terms: TermsOf) -> None:
    with pytest.raises(Expired):
        run(python("open('started', 'w')", tmp_path), terms(-1))
    assert not (tmp_path / "started").exists()


def test_command_reads_nothing_from_us(tmp_path: Path, terms: TermsOf) -> None:
    given = terms()
    run(python("import sys; print(len(sys.stdin.read()))", tmp_path), given)
    assert given.log.tail() == "0"


def test_installers_get_indexes_and_proxies_and_no_secrets() -> None:
    passed = {
        "PATH": "/bin", "HOME": "/home/me", "HTTPS_PROXY": "http://proxy:3128", "PIP_INDEX_URL": "https://index/simple",
        "npm_config_registry": "https://registry/", "UV_DEFAULT_INDEX": "https://index/simple",
    }  # fmt: skip
    kept_back = {
        "AWS_SECRET_ACCESS_KEY": "x", "GITHUB_TOKEN": "x", "KN_LAMBDA_RABBITMQ": "x", "NPM_TOKEN": "x",
        "PYTHONPATH": "x", "NODE_OPTIONS": "x", "LD_PRELOAD": "x", "npm_config__auth": "x", "PIP_TARGET": "x",
    }  # fmt: skip
    assert commands.cleaned(passed | kept_back) == passed


def test_environment_of_a_command_is_what_it_was_given(
    tmp_path: Path, terms: TermsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "not-for-installers")
    given = terms()
    environment = commands.cleaned(os.environ)
    code = "import os; print(os.environ.get('GITHUB_TOKEN'))"
    run(Command("tool", [sys.executable, "-I", "-c", code], tmp_path, environment), given)
    assert given.log.tail() == "None"
