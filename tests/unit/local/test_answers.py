"""Answers of functions, whole and in pieces, good and hostile."""

from __future__ import annotations

import pytest

from knative_lambda.local.serving.answers import HEADERS, AnswerReader, Broken, Raw
from knative_lambda.local.serving.upstream import head

pytestmark = pytest.mark.unit

LIMIT = 1000


def read(sent: bytes, *, piece: int = 0, to_head: bool = False, ends: bool = False) -> Raw | None:
    """The answer, None while it is not whole; `ends`: then the connection is closed."""
    reader = AnswerReader(to_head=to_head, limit=LIMIT)
    whole = False
    for start in range(0, len(sent), piece or len(sent)):
        whole = reader.feed(sent[start : start + (piece or len(sent))])
        if whole:
            break
    if ends and not whole:
        whole = reader.close()
    return reader.answer if whole else None


def answer(*headers: str, body: bytes = b"", status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *headers, "", ""]).encode() + body


@pytest.mark.parametrize("piece", [0, 1, 2, 7])
@pytest.mark.parametrize(
    ("sent", "body", "reusable"),
    [
        (answer("Content-Length: 5", body=b"hello"), b"hello", True),
        (answer("Content-Length: 0"), b"", True),
        (answer("content-length: 2", "Content-Length:2", body=b"ab"), b"ab", True),
        (answer("Content-Length: 5", "Connection: close", body=b"hello"), b"hello", False),
        (answer("Content-Length: 1", status="HTTP/1.0 200 OK", body=b"x"), b"x", False),
        (answer("Content-Length: 1", "Connection: Keep-Alive", status="HTTP/1.0 200 OK", body=b"x"), b"x", True),
        (answer(status="HTTP/1.1 204 No Content"), b"", True),
        (answer("Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), b"abcde", True),
        (answer("Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\nTrailer: x\r\n\r\n"), b"a", True),
        (answer(status="HTTP/1.1 103 Early Hints") + answer("Content-Length: 1", body=b"x"), b"x", True),
        (answer("Content-Length: 1", status="HTTP/1.1 200", body=b"x"), b"x", True),
    ],
)
def test_an_answer_is_the_same_in_any_pieces(sent: bytes, body: bytes, reusable: bool, piece: int) -> None:
    found = read(sent, piece=piece)
    assert found is not None
    assert (found.body, found.reusable) == (body, reusable)


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    sent = answer("X: y", body=b"some")
    assert read(sent) is None
    found = read(sent, ends=True)
    assert found is not None
    assert (found.body, found.reusable, found.headers) == (b"some", False, [("x", "y")])


def test_an_answer_to_head_has_no_body() -> None:
    found = read(answer("Content-Length: 500"), to_head=True)
    assert found is not None
    assert (found.body, found.headers) == (b"", [("content-length", "500")])


@pytest.mark.parametrize(
    "sent",
    [
        answer("Content-Length: 5", body=b"hell"),
        answer("Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
        b"HTTP/1.1",
    ],
)
def test_half_an_answer_is_none(sent: bytes) -> None:
    assert read(sent, ends=True) is None


def test_what_comes_after_the_answer_is_not_taken_for_the_next_one() -> None:
    found = read(answer("Content-Length: 1", body=b"x" + answer("Content-Length: 0")))
    assert found is not None
    assert (found.body, found.reusable) == (b"x", False)


@pytest.mark.parametrize(
    "sent",
    [
        answer(status="HTTP/2 200 OK"),
        answer(status="HTTP/1.1 600 What"),
        answer(status="HTTP/1.1 101 Switching Protocols"),
        answer(status="HTTP/1.1 100 Continue") * 50,
        b"no http at all\r\n\r\n",
        answer("Content-Length: -1"),
        answer("Content-Length: 1, 2"),
        answer("Content-Length: 1", "Content-Length: 2"),
        answer("Content-Length: \u0661"),
        answer("Content-Length: 1001"),
        answer("Content-Length: 99999999999999999999999"),
        answer("Content-Length: 1", "Transfer-Encoding: chunked"),
        answer("Transfer-Encoding: gzip, chunked"),
        answer("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        answer("Transfer-Encoding: chunked", body=b"zz\r\n"),
        answer("Transfer-Encoding: chunked", body=b"-1\r\n"),
        answer("Transfer-Encoding: chunked", body=b"1\r\nabc"),
        answer("Transfer-Encoding: chunked", body=b"3e9\r\n"),
        answer("Transfer-Encoding: chunked", body=b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n"),
        answer("Transfer-Encoding: chunked", body=b"0" * 5000),
        answer("Transfer-Encoding: chunked", body=b"0\r\n" + b"a: b\r\n" * 500),
        answer("X : y"),
        answer(" folded"),
        answer("X: a\x01b"),
        answer("no colon"),
        answer(*["X: y"] * (HEADERS + 1)),
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        answer(body=b"x" * 1001),
    ],
    ids=range(28),
)
def test_what_is_no_answer_is_refused(sent: bytes) -> None:
    for piece in (0, 97):
        with pytest.raises(Broken):
            read(sent, piece=piece)


def test_a_request_says_its_length_and_no_header_becomes_two() -> None:
    headers = [("host", "h"), ("x", "a\r\nevil: 1"), ("ce-id", "café"), ("bad\nname", "v")]
    sent = "POST /p?q HTTP/1.1\r\nhost: h\r\nce-id: café\r\ncontent-length: 0\r\n\r\n"
    assert head("POST", "/p?q", headers, length=0) == sent.encode()
    assert head("GET", "/", [], length=0) == b"GET / HTTP/1.1\r\n\r\n"
    assert b"content-length: 3\r\n" in head("GET", "/", [], length=3)
