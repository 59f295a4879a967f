"""One suite for the shims of every language: they run here as they run in an image, under their functions-framework.

Where a language cannot be had (no network, no npm, no Go) the reason is told, and in CI that is a failure. What happens
at the start and at the end of a process is in test_runtime_lifecycle.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from knative_lambda.api.function import Language
from tests.contract.codes import CODE
from tests.contract.functions import EVENT, JSON, LANGUAGES, STRUCTURED, Answer, Serving, Shelf
from tests.contract.go_functions import AnyShelf, any_shelf

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module", params=list(CODE), ids=lambda language: language.value)
def shelf(request: pytest.FixtureRequest) -> Iterator[AnyShelf]:
    with any_shelf(request.param, CODE[Language.GO]) as shelf:
        yield shelf


def serve(shelf: AnyShelf, name: str) -> Serving:
    return shelf.serve(name, CODE[shelf.language][name])


interpreted = pytest.mark.parametrize("shelf", LANGUAGES, indirect=True, ids=lambda language: language.value)
python_only = pytest.mark.parametrize("shelf", [Language.PYTHON], indirect=True, ids=["python"])
nodejs_only = pytest.mark.parametrize("shelf", [Language.NODEJS], indirect=True, ids=["nodejs"])


def event_text(**more: object) -> bytes:
    return json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **more}).encode()


def test_a_binary_cloudevent_reaches_the_handler(shelf: AnyShelf) -> None:
    answer = serve(shelf, "event").ask(body=b'{"n": 1}', headers=EVENT | JSON | {"ce-extra": "caf%C3%A9"})
    assert answer.json == {"type": "test.made", "data": {"n": 1}, "extra": "café"}


def test_headers_of_an_event_are_percent_encoded_and_a_bare_percent_sign_is_one(shelf: AnyShelf) -> None:
    for sent, meant in {"50%": "50%", "%zz %4": "%zz %4", "100%25 caf%c3%A9%": "100% café%", "%2541": "%41"}.items():
        assert serve(shelf, "event").ask(headers=EVENT | {"ce-extra": sent}).json["extra"] == meant


def test_a_structured_cloudevent_reaches_the_handler(shelf: AnyShelf) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"n": 2}}).encode()
    answer = serve(shelf, "event").ask(
        body=body, headers={"content-type": "application/cloudevents+json; charset=utf-8"}
    )
    assert answer.json == {"type": "t", "data": {"n": 2}, "extra": None}


def test_a_header_of_a_proxy_does_not_make_a_structured_event_binary(shelf: AnyShelf) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}).encode()
    answer = serve(shelf, "event").ask(body=body, headers=EVENT | {"content-type": "application/cloudevents+json"})
    assert answer.json["type"] == "t"


def test_an_event_without_data_reaches_the_handler(shelf: AnyShelf) -> None:
    assert serve(shelf, "event").ask(headers=EVENT).json == {"type": "test.made", "data": None, "extra": None}


def test_a_plain_request_reaches_the_handler(shelf: AnyShelf) -> None:
    """In python and nodejs the one of events, too; in Go the handler's type says which."""
    serving = serve(shelf, "plain" if shelf.language is Language.GO else "event")
    answer = serving.ask("PUT", "/some/path", body=b"text", headers={"content-type": "text/plain"})
    assert answer.json == {"method": "PUT", "body": "text", "path": "/some/path"}


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type"])
def test_what_an_event_lacks_is_said(shelf: AnyShelf, missing: str) -> None:
    headers = {name: value for name, value in EVENT.items() if name != f"ce-{missing}"}
    answer = serve(shelf, "event").ask(body=b"{}", headers=headers | JSON)
    assert (answer.status, answer.text) == (400, f"not a CloudEvent: {missing} missing\n")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        (STRUCTURED, b"{", "the body is not JSON"),
        (STRUCTURED, b"[]", "the body is not a JSON object"),
        (STRUCTURED, b'"text"', "the body is not a JSON object"),
        (STRUCTURED, b'{"specversion": "1.0", "source": "/s"}', "id, type missing"),
        (STRUCTURED, b'{"specversion": "1.0", "source": "/s", "type": "t", "id": 5}', "id must be text"),
        (STRUCTURED, b'{"specversion": "9", "source": "/s", "type": "t", "id": "1"}', "specversion 9 is not one of"),
        (EVENT | {"ce-specversion": "2.0"}, b"", "specversion 2.0 is not one of"),
        (STRUCTURED, event_text(id=0), "id must be text"),
        (STRUCTURED, event_text(type=False), "type must be text"),
        (STRUCTURED, event_text(subject=False, source=[]), "source, subject must be text"),
        (STRUCTURED, event_text(time=0), "time must be text"),
        (STRUCTURED, event_text(time=[]), "time must be text"),
        (EVENT | {"ce-subject": "%ff"}, b"", "a header is not percent-encoded UTF-8"),
        (STRUCTURED, event_text(subject=5), "subject must be text"),
        (STRUCTURED, event_text(time="yesterday"), "time is not of the form 2026-01-31T12:00:00Z"),
        (STRUCTURED, event_text(time="2026-13-45T99:00:00Z"), "time is not of the form 2026-01-31T12:00:00Z"),
        (STRUCTURED, event_text(time="2026-01-31T24:00:00Z"), "time is not of the form 2026-01-31T12:00:00Z"),
        (STRUCTURED, event_text(time="2026-01-31T12:00:60Z"), "time is not of the form 2026-01-31T12:00:00Z"),
        (STRUCTURED, event_text(time="2026-01-31T12:00:00+24:00"), "time is not of the form 2026-01-31T12:00:00Z"),
        (STRUCTURED, event_text(time="٢026-01-31T12:00:00Z"), "time is not of the form 2026-01-31T12:00:00Z"),
        (EVENT | {"ce-time": "2026-02-29T12:00:00Z"}, b"", "time is not of the form 2026-01-31T12:00:00Z"),
        (STRUCTURED, event_text(my_ext="a"), "my_ext is no name of an attribute: lower-case letters and digits only"),
        (STRUCTURED, event_text(myExt="a"), "myExt is no name of an attribute: lower-case letters and digits only"),
        (STRUCTURED, event_text(**{"ext\n": 1}), " is no name of an attribute: lower-case letters and digits only"),
        (EVENT | {"ce-my-ext": "a"}, b"", "my-ext is no name of an attribute: lower-case letters and digits only"),
        (STRUCTURED, event_text(extra={"a": 1}), "extra must be text, a number or a boolean"),
        (STRUCTURED, event_text(data_base64="!!!"), "data_base64 is not base64"),
        (STRUCTURED, event_text(data_base64=5), "data_base64 is not base64"),
        (STRUCTURED, event_text(data_base64="AP8=\n"), "data_base64 is not base64"),
        (STRUCTURED, event_text(data_base64="AP\r\n8="), "data_base64 is not base64"),
        (STRUCTURED, event_text(data_base64="AP8=", data=1), "data and data_base64 exclude each other"),
        (EVENT | {"ce-time": "2026-01-31"}, b"", "time is not of the form"),
        (EVENT | JSON, b"{", "the data is not JSON"),
        (EVENT | {"content-type": "application/vnd.test+json"}, b"{", "the data is not JSON"),
    ],
)
def test_what_is_wrong_with_an_event_is_said(shelf: AnyShelf, headers: dict[str, str], body: bytes, words: str) -> None:
    answer = serve(shelf, "event").ask(body=body, headers=headers)
    assert answer.status == 400
    assert answer.text.startswith("not a CloudEvent: ")
    assert words in answer.text
    assert "Traceback" not in answer.text
    serve(shelf, "event").await_log(f"refused: {answer.text}")


@pytest.mark.parametrize(
    "more",
    [
        {"time": "2026-01-31T12:00:00.5+01:00"},
        {"time": "2024-02-29T23:59:59.123456789-23:59"},
        {"extra": 5},
        {"extra": True},
        {"subject": None},
        {"time": None},
        {"data_base64": ""},
    ],
)
def test_an_event_of_every_kind_of_attribute_is_taken(shelf: AnyShelf, more: dict[str, object]) -> None:
    assert serve(shelf, "event").ask(body=event_text(**more), headers=STRUCTURED).status == 200


@pytest.mark.parametrize("kind", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_batches_and_other_formats_are_415_but_for_handlers_of_requests(shelf: AnyShelf, kind: str) -> None:
    serving = serve(shelf, "event")
    answer = serving.ask(body=b"[]", headers={"content-type": kind})
    words = f"{kind} is not taken: send each event by itself, as application/cloudevents+json or in headers\n"
    assert (answer.status, answer.text) == (415, words)
    serving.await_log(f"refused: {kind}")
    assert serve(shelf, "request").ask(body=b"[]", headers={"content-type": kind}).status == 200


def test_an_event_of_a_batch_type_in_headers_is_415_too(shelf: AnyShelf) -> None:
    headers = EVENT | {"content-type": "application/cloudevents-batch+json; charset=utf-8"}
    assert serve(shelf, "event").ask(body=b"[]", headers=headers).status == 415


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("application/json", b'"text"', "text"),
        ("application/json; charset=utf-8", b"5", 5),
        ("application/vnd.test+json", b'{"n": 1}', {"n": 1}),
        ("application/json", b"", None),
    ],
)
def test_json_data_of_every_kind_reaches_the_handler(shelf: AnyShelf, kind: str, body: bytes, data: Any) -> None:
    assert serve(shelf, "event").ask(body=body, headers=EVENT | {"content-type": kind}).json["data"] == data


KINDS = {
    Language.PYTHON: {"text/plain": "bytes", "application/x-www-form-urlencoded": "bytes", "image/png": "bytes"},
    Language.NODEJS: {"text/plain": "string", "application/x-www-form-urlencoded": "object", "image/png": "Buffer"},
    Language.GO: {"text/plain": "[]uint8", "application/x-www-form-urlencoded": "[]uint8", "image/png": "[]uint8"},
}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_other_data_arrives_as_docs_functions_md_says(shelf: AnyShelf, kind: str) -> None:
    answer = serve(shelf, "kinds").ask(body=b"a=1", headers=EVENT | {"content-type": kind})
    assert answer.text == KINDS[shelf.language][kind]


def test_binary_data_of_a_structured_event_arrives_as_bytes(shelf: AnyShelf) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data_base64": "AP8="}
    answer = serve(shelf, "data").ask(body=json.dumps(event).encode(), headers=STRUCTURED)
    assert (answer.body, answer.headers["content-type"]) == (b"\0\xff", "application/octet-stream")


@pytest.mark.parametrize("first", ["data", "specversion", "datacontenttype"])
def test_data_of_a_structured_event_does_not_depend_on_the_order_of_its_fields(shelf: AnyShelf, first: str) -> None:
    event = json.loads(event_text(data={"n": 1}, datacontenttype="a/b+json"))
    ordered = {first: event[first], **event}
    answer = serve(shelf, "event").ask(body=json.dumps(ordered).encode(), headers=STRUCTURED)
    assert answer.json["data"] == {"n": 1}


@pytest.mark.parametrize("kind", ["text/plain", "x/y"])
def test_text_in_a_structured_event_arrives_without_quotes(shelf: AnyShelf, kind: str) -> None:
    event = event_text(data="a", datacontenttype=kind)
    assert serve(shelf, "data").ask(body=event, headers=STRUCTURED).body == b"a"


@pytest.mark.parametrize("data", [None, 0, [1], {"a": None}])
def test_data_of_a_structured_event_without_a_type_is_json(shelf: AnyShelf, data: Any) -> None:
    assert serve(shelf, "event").ask(body=event_text(data=data), headers=STRUCTURED).json["data"] == data


def test_null_of_a_structured_event_is_no_data(shelf: AnyShelf) -> None:
    answer = serve(shelf, "data").ask(body=event_text(data=None), headers=STRUCTURED)
    assert (answer.status, answer.body) == (204, b"")


def test_a_handler_of_requests_gets_the_request_even_for_an_event(shelf: AnyShelf) -> None:
    answer = serve(shelf, "request").ask(path="/x", body=b"{}", headers=EVENT | JSON)
    assert answer.json == {"id": "1", "path": "/x"}


def test_a_returned_event_is_a_cloudevent_reply(shelf: AnyShelf) -> None:
    answer = serve(shelf, "reply").ask(body=b"{}", headers=EVENT | JSON)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/cloudevents+json"
    assert (answer.json["type"], answer.json["data"]) == ("test.reply", {"to": "1"})


def test_nothing_returned_is_an_empty_answer(shelf: AnyShelf) -> None:
    answer = serve(shelf, "nothing").ask(headers=EVENT)
    assert (answer.status, answer.body) == (204, b"")


@interpreted
def test_an_async_handler_is_awaited(shelf: AnyShelf) -> None:
    assert serve(shelf, "async").ask(headers=EVENT).json == {"id": "1"}


def test_a_failing_handler_is_a_500_that_a_broker_retries(shelf: AnyShelf) -> None:
    serving = serve(shelf, "raises")
    assert serving.ask(headers=EVENT).status == 500
    serving.await_log("of the function")
    assert serving.ask("GET", "/health/liveness").status == 200


@pytest.mark.parametrize("path", ["/health/liveness", "/health/readiness"])
def test_health_is_answered_without_the_handler(shelf: AnyShelf, path: str) -> None:
    answer = serve(shelf, "raises").ask("GET", path)
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert serve(shelf, "raises").ask("POST", path, headers=EVENT).status == 500, "other methods are the handler's"


@pytest.mark.parametrize("path", ["/favicon.ico", "/robots.txt"])
def test_what_browsers_ask_for_is_404_without_the_handler(shelf: AnyShelf, path: str) -> None:
    assert serve(shelf, "request").ask("GET", path).status == 404


@interpreted
def test_a_handler_in_a_module_below_finds_its_neighbours(shelf: Shelf) -> None:
    files, handler = {
        Language.PYTHON: (
            {"pkg/__init__.py": "", "pkg/app.py": "from pkg import near\ndef run(event):\n    return near.word()\n",
             "pkg/near.py": "def word():\n    return 'near'\n"}, "pkg.app.run"),
        Language.NODEJS: (
            {"src/app.mjs": "import { word } from './near.mjs';\nexport const run = () => word();\n",
             "src/near.mjs": "export const word = () => 'near';\n"}, "src/app.run"),
    }[shelf.language]  # fmt: skip
    assert shelf.serve_files("below", files, handler=handler).ask(headers=EVENT).body == b"near"


@python_only
def test_decorated_python_takes_events_only(shelf: AnyShelf) -> None:
    serving = serve(shelf, "decorated")
    assert serving.ask(headers=EVENT).status == 204
    assert serving.ask("GET").status == 400


ANSWERS = {
    "/dict": (200, "application/json", b'{"a":[1,null]}'),
    "/list": (200, "application/json", b'[1,{"b":2}]'),
    "/text": (200, "text/html; charset=utf-8", "café".encode()),
    "/bytes": (200, "application/octet-stream", b"\0\xff"),
    "/nothing": (204, "", b""),
    "/status": (201, "application/json", b'{"made":true}'),
    "/headers": (303, "text/plain", b"moved"),
    "/empty": (202, "", b""),
}


@pytest.mark.parametrize("path", ANSWERS)
def test_what_a_handler_returns_is_the_answer(shelf: AnyShelf, path: str) -> None:
    answer = serve(shelf, "returns").ask(path=path)
    status, kind, body = ANSWERS[path]
    assert (answer.status, answer.body.replace(b" ", b"").strip()) == (status, body)
    assert answer.headers.get("content-type", "") == kind


def test_headers_of_an_answer_are_sent(shelf: AnyShelf) -> None:
    serving = serve(shelf, "returns")
    assert serving.ask(path="/headers").headers["location"] == "/there"
    assert serving.ask(path="/cookies").headers["set-cookie"] in ("b=2", "a=1, b=2")


def test_bytes_in_a_returned_event_are_sent_in_base64(shelf: AnyShelf) -> None:
    reply = serve(shelf, "returns").ask(path="/event").json
    assert (base64.b64decode(reply["data_base64"]), "data" in reply) == (b"\0\xff", False)


@pytest.mark.parametrize("path", ["/wrong", "/hidden", "/unknown", "/long"])
def test_what_cannot_be_sent_is_a_500_whose_log_says_what_and_what_is_allowed(shelf: AnyShelf, path: str) -> None:
    serving = serve(shelf, "returns")
    answer = serving.ask(path=path)
    assert answer.status == 500
    serving.await_log(f"error {answer.headers['x-error-id']}: the handler returned ")
    assert "allowed: " in _logged(serving, answer)


def _logged(serving: Serving, answer: Answer) -> str:
    [line] = [line for line in serving.log.splitlines() if answer.headers["x-error-id"] in line]
    return line


COMMON = {"date", "server", "connection", "keep-alive", "content-length"}


def test_an_error_tells_the_caller_an_id_and_only_the_log_the_rest(shelf: AnyShelf) -> None:
    serving = serve(shelf, "secretive")
    answer = serving.ask(headers=EVENT)
    identity = answer.headers["x-error-id"]
    assert (answer.status, answer.text) == (500, f"internal error {identity}\n")
    serving.await_log(f"error {identity}: ")
    serving.await_log("password hunter2")
    after = serving.log.partition(f"error {identity}: ")[2]
    assert shelf.code_file in after, "the stack names the user's file"
    ours = ("lambda-shim", "lambda_shim", "/shim.", "node:internal", "runtime/")
    assert not any(word in after for word in ours), after
    assert len(after.splitlines()) < 12
    assert shelf.language is not Language.GO or "origin(" in after
    assert answer.headers.keys() - COMMON == {"content-type", "x-error-id"}
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert serving.ask(headers=EVENT).headers["x-error-id"] != identity


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_handler_of_two_parameters_gets_event_and_context(shelf: AnyShelf) -> None:
    headers = EVENT | {"traceparent": TRACE, "tracestate": "a=1"}
    told = serve(shelf, "context").ask(path="/in", headers=headers).json
    assert len(told.pop("id")) == 16
    assert told == {
        "traceparent": TRACE, "tracestate": "a=1", "function": "hello", "revision": "hello-00001", "path": "/in",
        "event": "test.made",
    }  # fmt: skip


def test_the_trace_of_an_event_is_taken_when_the_request_has_none(shelf: AnyShelf) -> None:
    serving = serve(shelf, "context")
    assert serving.ask(headers=EVENT | {"ce-traceparent": TRACE}).json["traceparent"] == TRACE
    assert serving.ask(headers=EVENT | {"ce-traceparent": "x", "traceparent": TRACE}).json["traceparent"] == TRACE
    assert not serving.ask(headers=EVENT).json["traceparent"]


def test_a_plain_request_comes_with_a_context_too(shelf: AnyShelf) -> None:
    serving = serve(shelf, "plain context" if shelf.language is Language.GO else "context")
    told = serving.ask("GET", "/some").json
    assert (told["path"], told["event"], told["traceparent"] or None) == ("/some", None, None)
    assert (told["function"], told.get("unknown")) == ("hello", None)
    assert serving.ask("GET", headers={"traceparent": TRACE}).json["traceparent"] == TRACE


@python_only
def test_python_parameters_decide_what_is_given(shelf: AnyShelf) -> None:
    assert serve(shelf, "context of a request").ask(path="/x", headers=EVENT).json == ["/x", "hello"]
    assert serve(shelf, "optional").ask(headers=EVENT).text == "hello"
    assert serve(shelf, "own default").ask(headers=EVENT).json == {"a": 1}
    assert serve(shelf, "async context").ask(path="/x", headers=EVENT).text == "/x"


@nodejs_only
@pytest.mark.parametrize(
    "handler",
    [
        "async (event, ctx) => told(ctx)",
        "function (event, context) { return told(context); }",
        "(event, { id, function: name }) => ({ id, name })",
        "({ type, data }, /* (a, b) */ context) => told(context)",
        "(...all) => told(all[1])",
        "(event, context = {}) => told(context)",
    ],
)
def test_nodejs_gives_the_context_to_a_second_parameter_of_that_name(shelf: Shelf, handler: str) -> None:
    telling = "const told = ({ id, function: name }) => ({ id, name });"
    name = "".join(filter(str.isalnum, handler))
    told = shelf.serve(name, f"{telling}\nexports.handler = {handler};").ask(headers=EVENT).json
    assert (len(told["id"]), told["name"]) == (16, "hello")


@nodejs_only
@pytest.mark.parametrize("names", ["req, res", "request, response", "a, b", "event, out"])
def test_nodejs_gives_any_other_two_parameters_request_and_response(shelf: Shelf, names: str) -> None:
    first, second = names.split(", ")
    code = f"exports.handler = ({names}) => {second}.json({{ path: {first}.path }});"
    assert shelf.serve(f"pair-{first}-{second}", code).ask(path="/x", headers=EVENT).json == {"path": "/x"}


@nodejs_only
def test_nodejs_answers_500_for_what_a_request_throws_later_and_goes_on(shelf: AnyShelf) -> None:
    serving = serve(shelf, "returns")
    answer = serving.ask(path="/later")
    assert (answer.status, answer.text) == (500, f"internal error {answer.headers['x-error-id']}\n")
    serving.await_log("thrown later")
    assert serving.ask(path="/null").status == 500
    assert serving.ask(path="/number").json == 404


@interpreted
def test_a_plain_body_that_is_not_json_is_a_400_that_says_so(shelf: AnyShelf) -> None:
    serving = serve(shelf, "json")
    assert serving.ask(body=b'{"a": 1}', headers=JSON).json == {"is": {"a": 1}}
    answer = serving.ask(body=b"{", headers=JSON)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert answer.text.startswith("the body is not JSON (Expect")
    serving.await_log(f"refused: {answer.text}")


@pytest.mark.parametrize("shelf", [Language.NODEJS, Language.GO], indirect=True, ids=["nodejs", "go"])
def test_headers_that_were_set_before_an_error_are_not_sent(shelf: AnyShelf) -> None:
    answer = serve(shelf, "headers, then an error").ask()
    assert (answer.status, "set-cookie" in answer.headers) == (500, False)


def test_an_answer_whose_body_breaks_is_cut_off(shelf: AnyShelf) -> None:
    serving = serve(shelf, "breaks")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        serving.ask("GET")
    serving.await_log("the body broke")
    assert serving.ask("GET", "/health/liveness").status == 200


@pytest.mark.parametrize("shelf", [Language.GO], indirect=True, ids=["go"])
def test_go_cancels_the_context_of_a_client_that_goes_away(shelf: AnyShelf) -> None:
    serving = serve(shelf, "waits")
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=20)
    connection.request("POST", "/", body=b"{}", headers=EVENT | JSON)
    serving.await_log("waits")
    connection.close()
    serving.await_log("cancelled")


@pytest.mark.parametrize("shelf", [Language.GO], indirect=True, ids=["go"])
def test_go_handlers_of_events_take_nothing_else(shelf: AnyShelf) -> None:
    serving = serve(shelf, "event")
    answer = serving.ask("GET")
    assert (answer.status, answer.text) == (400, "not a CloudEvent: this function takes CloudEvents only\n")
    serving.await_log(f"refused: {answer.text}")


@python_only
def test_python_answers_with_what_flask_knows(shelf: AnyShelf) -> None:
    serving = serve(shelf, "returns")
    aborted = serving.ask(path="/abort")
    assert (aborted.status, "no coffee" in aborted.text) == (418, True)
    assert serving.ask(path="/stream").body == b"one two"


@python_only
def test_python_numbers_and_exits_are_errors(shelf: AnyShelf) -> None:
    serving = serve(shelf, "returns")
    for path in ("/number", "/exit"):
        answer = serving.ask(path=path)
        assert (answer.status, answer.text) == (500, f"internal error {answer.headers['x-error-id']}\n")
    assert serving.ask(path="/text").status == 200
