"""What travels into a build."""

from __future__ import annotations

import base64
import gzip

import pytest

from knative_lambda.resources import build_request
from knative_lambda.resources.build_request import BuildRequest, BuildRequestError
from tests import gen


def _request(*parts: gen.Part) -> BuildRequest:
    fn = gen.lambda_function("hello", *parts)
    assert fn.spec.runtime is not None
    return build_request.of(fn, runtime=fn.spec.runtime, revision=gen.resolution(fn).revision)


@pytest.mark.parametrize("source", [gen.inline(), gen.git(), gen.branch()])
def test_request_comes_out_as_it_went_in(source: gen.Raw) -> None:
    request = _request(gen.with_source(source))
    assert build_request.decode(build_request.encode(request)) == request


def test_same_request_is_the_same_text() -> None:
    assert build_request.encode(_request()) == build_request.encode(_request())


def test_largest_ordinary_code_fits() -> None:
    code = "\n".join(f"def f{n}(event): return {n * 7919}" for n in range(1700))[:65_536]
    assert len(build_request.encode(_request(gen.with_source(gen.inline(code))))) < build_request.ENCODED_LIMIT


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "not base64!",
        base64.b64encode(b"no gzip").decode(),
        base64.b64encode(gzip.compress(b"{}")[:-6]).decode(),
        base64.b64encode(gzip.compress(b"[1")).decode(),
        base64.b64encode(gzip.compress(b'{"name": "x"}')).decode(),
    ],
    ids=["nothing", "no base64", "no gzip", "half a stream", "half a document", "no request"],
)
def test_what_is_no_request_is_refused(encoded: str) -> None:
    with pytest.raises(BuildRequestError, match="cannot be read"):
        build_request.decode(encoded)


def test_bomb_is_not_unpacked() -> None:
    bomb = base64.b64encode(gzip.compress(b" " * (build_request.DECODED_LIMIT + 1))).decode()
    with pytest.raises(BuildRequestError, match="unpacks to more"):
        build_request.decode(bomb)


@pytest.mark.parametrize(
    "part",
    [
        gen.with_source(gen.inline("other")),
        gen.with_runtime("python", "3.12", "main.handler"),
        gen.with_runtime("python", "3.13", "main.other"),
        gen.with_spec(build={"registry": "ghcr.io/me/x"}),
        gen.annotated("lambda.knative.io/rebuild-requested-at", "now"),
    ],
)
def test_everything_that_decides_about_the_image_is_part_of_its_identity(part: gen.Part) -> None:
    assert gen.build_digest(gen.lambda_function("hello", part)) != gen.build_digest(gen.lambda_function("hello"))


def test_what_does_not_touch_the_image_is_not() -> None:
    plain = gen.build_digest(gen.lambda_function("hello"))
    for part in (
        gen.with_spec(env=[{"name": "A", "value": "b"}]),
        gen.with_spec(scaling={"maxReplicas": 3}),
        gen.with_trigger("default"),
        gen.with_runtime("python", "3.13"),
    ):
        assert gen.build_digest(gen.lambda_function("hello", part)) == plain
