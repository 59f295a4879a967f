"""The build context of inline functions, and what a context refuses; git's are in tests/contract/test_sources.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knative_lambda.api.conditions import Reason
from knative_lambda.api.function import ImageSource, InlineSource, Language, MinioSource, Runtime, Source, SourceType
from knative_lambda.resources.build_request import EXIT_REFUSED, BuildRequest
from knative_lambda.sources import context, identity
from knative_lambda.sources.base import FetchLimits, SourceError
from knative_lambda.sources.dial import DialPolicy

NOBODY = Path("/nonexistent/credentials")


def request(source: Source, **runtime: Any) -> BuildRequest:
    return BuildRequest(
        namespace="tenant", name="hello", source=source, runtime=Runtime(**({"language": Language.PYTHON} | runtime))
    )


def inline(code: str = "def handler(event): ...\n", dependencies: str = "") -> Source:
    return Source(type=SourceType.INLINE, inline=InlineSource(code=code, dependencies=dependencies))


def write(into: Path, asked: BuildRequest) -> dict[str, str]:
    """The context as path -> text."""
    context.write_context(asked, credentials_dir=NOBODY, into=into, policy=DialPolicy(), limits=FetchLimits())
    return {str(path.relative_to(into)): path.read_text() for path in into.rglob("*") if path.is_file()}


def test_an_inline_python_function_is_laid_out_whole(tmp_path: Path) -> None:
    files = write(tmp_path / "workspace", request(inline("def handler(event): ...\n", "httpx==0.28.1\n")))
    assert files["function/main.py"] == "def handler(event): ...\n"
    assert files["function/requirements.txt"] == files["dependencies/requirements.txt"] == "httpx==0.28.1\n"
    assert json.loads(files["runtime/runtime.json"]) == {"module": "main", "function": "handler"}
    assert set(files) == {
        "Dockerfile", "dependencies/requirements.txt", "function/main.py", "function/requirements.txt",
        "runtime/knative_lambda_shim.py", "runtime/requirements.txt", "runtime/runtime.json",
    }  # fmt: skip


def test_an_inline_node_function_is_laid_out_whole(tmp_path: Path) -> None:
    package = '{"dependencies": {"left-pad": "1.3.0"}}'
    files = write(tmp_path, request(inline("exports.handler = () => 1;\n", package), language=Language.NODEJS))
    assert files["function/index.js"] == "exports.handler = () => 1;\n"
    assert files["dependencies/package.json"] == package
    assert json.loads(files["runtime/runtime.json"])["files"][0] == "index.js"


def test_an_inline_go_function_is_laid_out_whole(tmp_path: Path) -> None:
    module = "module shop\n\nrequire example.com/a v1.0.0\n"
    files = write(tmp_path, request(inline("package function\n", module), language=Language.GO))
    assert files["function/main.go"] == "package function\n"
    assert files["function/go.mod"] == files["dependencies/go.mod"] == module
    assert json.loads(files["runtime/runtime.json"]) == {"package": ".", "function": "Handler"}
    assert set(files) == {
        "Dockerfile", "dependencies/go.mod", "function/main.go", "function/go.mod", "runtime/runtime.json",
        "runtime/shim.go", "runtime/handlers.go", "runtime/events.go", "runtime/answers.go",
        "runtime/compile/main.go", "runtime/go.mod", "runtime/go.sum",
    }  # fmt: skip


def test_inline_code_goes_where_its_handler_says(tmp_path: Path) -> None:
    assert "function/app/web.py" in write(tmp_path, request(inline(), handler="app.web.run"))


def test_the_answer_is_the_sources_identity(tmp_path: Path) -> None:
    source = inline()
    found = context.write_context(
        request(source), credentials_dir=NOBODY, into=tmp_path, policy=DialPolicy(), limits=FetchLimits()
    )
    assert found == identity.known(source)


def test_local_requirements_bring_the_whole_function(tmp_path: Path) -> None:
    files = write(tmp_path, request(inline(dependencies="./lib\n")))
    assert files["dependencies/main.py"] == files["function/main.py"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(inline(), version="2.7"), Reason.UNKNOWN_RUNTIME),
        (request(inline(), language=Language.GO, version="1.1"), Reason.UNKNOWN_RUNTIME),
        (request(Source(type=SourceType.IMAGE, image=ImageSource(uri="a/b:1"))), Reason.INVALID_SPEC),
        (
            request(Source(type=SourceType.MINIO, minio=MinioSource(bucket="abc", key="a.zip"))),
            Reason.SOURCE_UNSUPPORTED,
        ),
    ],
)
def test_what_cannot_be_built_is_refused_for_good(tmp_path: Path, asked: BuildRequest, reason: Reason) -> None:
    with pytest.raises(SourceError) as caught:
        write(tmp_path, asked)
    assert caught.value.reason is reason
    assert context.exit_code(caught.value) == EXIT_REFUSED


def test_trouble_that_may_pass_is_tried_again() -> None:
    assert context.exit_code(SourceError(Reason.UNREACHABLE, "away", retry=True)) == context.EXIT_RETRY


def test_a_context_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "left.over").write_text("x")
    with pytest.raises(SourceError, match="not empty"):
        write(tmp_path, request(inline()))


def test_credentials_are_the_keys_of_the_mounted_secret(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "password").write_text("secret")
    (tmp_path / "password").symlink_to("..data/password")
    found = context.read_credentials(tmp_path)
    assert found.values == {"password": "secret"}
    assert "secret" not in repr(found)


def test_no_mounted_secret_is_no_credentials() -> None:
    assert context.read_credentials(NOBODY).values == {}
