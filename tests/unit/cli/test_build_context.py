"""The init container of a build: a filled directory, or a reason where the kubelet finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from knative_lambda.api import function
from knative_lambda.resources import build_request
from knative_lambda.resources.build_request import EXIT_REFUSED
from tests.unit.api import documents
from tests.unit.cli.terminal import Terminal


def _request(**spec: object) -> str:
    fn = function.parse(documents.function(**spec))
    assert fn.spec.runtime is not None
    return build_request.encode(build_request.of(fn, runtime=fn.spec.runtime, revision="r1"))


INLINE = {"type": "inline", "inline": {"code": "def handler(request):\n    return 'hi'\n"}}


def test_inline_code_is_laid_out_beside_dockerfile_and_shim(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_REQUEST", _request(source=INLINE))
    ended = terminal.run("build-context", "--into", "build")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("shop/hello: revision ")
    build = terminal.here / "build"
    assert (build / "function/main.py").read_text().startswith("def handler")
    assert (build / "Dockerfile").read_text().startswith("ARG BASE_IMAGE=")
    assert (build / "runtime/runtime.json").is_file()


def test_json_names_function_revision_and_digest(terminal: Terminal) -> None:
    told = terminal.run("build-context", "--request", _request(source=INLINE), "--into", "build", "-o", "json").json
    assert told["function"] == "shop/hello"
    assert len(told["digest"]) == 64


REFUSED = {
    "an unreadable request": ("not base64!", "the build request cannot be read"),
    "a cut request": (_request(source=INLINE)[:-8], "the build request cannot be read"),
    "a ready image": (
        _request(source={"type": "image", "image": documents.SOURCES["image"]}),
        "there is nothing to build",
    ),
    "an unknown version": (
        _request(source=INLINE, runtime={"language": "python", "version": "2.7"}),
        "runtime python 2.7 has no builder",
    ),
    "a source that cannot be fetched": (
        _request(source={"type": "s3", "s3": documents.SOURCES["s3"]}),
        "sources of type s3",
    ),
    "an address that may not be dialled": (
        _request(source={"type": "git", "git": {"url": "http://127.0.0.1:9/x.git", "commit": "a" * 40}}),
        "127.0.0.1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_person_must_mend_fails_the_job_at_once(terminal: Terminal, case: str) -> None:
    request, words = REFUSED[case]
    log = terminal.file("termination-log", "")
    ended = terminal.run("build-context", "--request", request, "--into", "build", "--termination-log", log)
    assert ended.code == EXIT_REFUSED
    assert words in log.read_text()
    assert ended.err == f"{log.read_text()}\n"
    assert ended.out == ""


def test_trouble_of_the_disk_is_tried_again(terminal: Terminal) -> None:
    terminal.file("build", "a file where a directory should be\n")
    log = terminal.file("termination-log", "")
    ended = terminal.run(
        "build-context", "--request", _request(source=INLINE), "--into", "build", "--termination-log", log
    )
    assert ended.code == 1
    assert "build: File exists" in log.read_text()


def test_outside_of_a_pod_no_log_is_made(terminal: Terminal) -> None:
    ended = terminal.run("build-context", "--request", "x", "--termination-log", "nowhere")
    assert ended.code == EXIT_REFUSED
    assert not Path("nowhere").exists()


def test_a_reason_is_no_longer_than_the_kubelet_keeps(terminal: Terminal) -> None:
    code = {"type": "git", "git": {"url": "https://example.com/" + "x" * 2000, "commit": "a" * 40}}
    log = terminal.file("termination-log", "")
    ended = terminal.run(
        "build-context",
        "--request",
        _request(source=code, runtime={"language": "python", "version": "2.7"}),
        "--into",
        "build",
        "--termination-log",
        log,
    )
    assert ended.code == EXIT_REFUSED
    assert 0 < log.stat().st_size <= 4096


def test_without_a_request_the_variable_is_named(terminal: Terminal) -> None:
    ended = terminal.run("build-context")
    assert ended.code == 2
    assert "BUILD_REQUEST" in ended.err
