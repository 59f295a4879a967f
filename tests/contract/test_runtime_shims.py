"""One suite for the shims of every language: they run here as they run in an image, under their functions-framework.

Where a language's server cannot be installed (no network, no npm) it is skipped with the reason. What happens at the
start and at the end of a process is in test_runtime_lifecycle.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from knative_lambda.api.function import Language
from tests.contract.functions import EVENT, JSON, LANGUAGES, STRUCTURED, Answer, Serving, Shelf, language_shelf

pytestmark = pytest.mark.contract

CODE = {
    Language.PYTHON: {
        "event": """
def handler(event):
    if hasattr(event, "method"):
        return {"method": event.method, "body": event.get_data(as_text=True), "path": event.path}
    return {"type": event["type"], "data": event.data, "extra": event.get("extra")}
""",
        "request": "def handler(request):\n    return {'id': request.headers.get('ce-id'), 'path': request.path}\n",
        "reply": """
from cloudevents.http import CloudEvent
def handler(event):
    return CloudEvent({"type": "test.reply", "source": "/me", "id": "r-1"}, {"to": event["id"]})
""",
        "nothing": "def handler(event):\n    return None\n",
        "async": "async def handler(event):\n    return {'id': event['id']}\n",
        "raises": "def handler(event):\n    raise RuntimeError('of the function')\n",
        "decorated": (
            "import functions_framework\n@functions_framework.cloud_event\ndef handler(it):\n    assert it['type']\n"
        ),
        "returns": """
import flask
from cloudevents.http import CloudEvent
ANSWERS = {
    "/dict": lambda: {"a": [1, None]},
    "/list": lambda: [1, {"b": 2}],
    "/text": lambda: "caf\u00e9",
    "/bytes": lambda: b"\\x00\\xff",
    "/nothing": lambda: None,
    "/status": lambda: ({"made": True}, 201),
    "/headers": lambda: ("moved", 303, {"location": "/there", "content-type": "text/plain"}),
    "/empty": lambda: (None, 202),
    "/event": lambda: CloudEvent({"type": "t", "source": "/me", "id": "7"}, b"\\x00\\xff"),
    "/cookies": lambda: ("", 200, [("set-cookie", "a=1"), ("set-cookie", "b=2")]),
    "/abort": lambda: flask.abort(418, description="no coffee"),
    "/stream": lambda: (part for part in ("one ", "two")),
    "/wrong": lambda: {1, 2},
    "/hidden": lambda: {"a": {1, 2}},
    "/number": lambda: 404,
    "/unknown": lambda: ("x", 99),
    "/long": lambda: ("x", 200, {}, 4),
    "/exit": lambda: exit(0),
}
def handler(request):
    return ANSWERS[request.path]()
""",
        "context": """
def handler(event, context):
    told = {name: getattr(context, name) for name in ("id", "traceparent", "tracestate", "function", "revision")}
    return {**told, "path": context.request.path, "event": None if hasattr(event, "method") else event["type"]}
""",
        "context of a request": "def handler(request, context):\n    return [request.path, context.function]\n",
        "optional": "def handler(event, context=None):\n    return context.function\n",
        "own default": "def handler(event, table={'a': 1}):\n    return table\n",
        "async context": "async def handler(event, ctx):\n    return ctx.request.path\n",
        "secretive": "def handler(event):\n    raise RuntimeError('password hunter2')\n",
    },
    Language.NODEJS: {
        "event": """
exports.handler = (event) => event.specversion
  ? { type: event.type, data: event.data ?? null, extra: event.extra ?? null }
  : { method: event.method, body: event.rawBody?.toString() ?? '', path: event.path };
""",
        "request": "exports.handler = (req, res) => res.json({ id: req.header('ce-id') ?? null, path: req.path });\n",
        "reply": """
exports.handler = (event) =>
  ({ specversion: '1.0', type: 'test.reply', source: '/me', id: 'r-1', data: { to: event.id } });
""",
        "nothing": "exports.handler = () => undefined;\n",
        "async": "exports.handler = async (event) => ({ id: event.id });\n",
        "raises": "exports.handler = () => { throw new Error('of the function'); };\n",
        "returns": """
const circle = {}; circle.self = circle;
const moved = { location: '/there', 'content-type': 'text/plain' };
const cookies = new Headers(); cookies.append('set-cookie', 'a=1'); cookies.append('set-cookie', 'b=2');
const ANSWERS = {
  '/dict': () => ({ a: [1, null] }),
  '/list': () => [1, { b: 2 }],
  '/text': () => 'caf\u00e9',
  '/bytes': () => new Uint8Array([0, 255]),
  '/nothing': () => undefined,
  '/status': () => Response.json({ made: true }, { status: 201 }),
  '/headers': () => new Response('moved', { status: 303, headers: moved }),
  '/empty': () => new Response(null, { status: 202 }),
  '/event': () => ({ specversion: '1.0', type: 't', source: '/me', id: '7', data: Buffer.from([0, 255]) }),
  '/cookies': () => new Response('', { headers: cookies }),
  '/number': () => 404,
  '/wrong': () => new Set([1]),
  '/hidden': () => circle,
  '/unknown': () => () => 1,
  '/long': () => 10n,
  '/later': () => new Promise(() => setTimeout(() => { throw new Error('thrown later'); }, 10)),
  '/null': () => { throw null; },
};
exports.handler = (event) => ANSWERS[event.path]();
""",
        "context": """
exports.handler = (event, context) => {
  const { id, traceparent, tracestate, request, ...rest } = context;
  return { id, traceparent, tracestate, ...rest, path: request.path, event: event.specversion ? event.type : null };
};
""",
        "secretive": "exports.handler = async () => { throw new Error('password hunter2'); };\n",
    },
}


@pytest.fixture(scope="module", params=LANGUAGES, ids=lambda language: language.value)
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    with language_shelf(request.param) as shelf:
        yield shelf


def serve(shelf: Shelf, name: str) -> Serving:
    return shelf.serve(name, CODE[shelf.installed.language][name])


python_only = pytest.mark.parametrize("shelf", [Language.PYTHON], indirect=True, ids=["python"])
nodejs_only = pytest.mark.parametrize("shelf", [Language.NODEJS], indirect=True, ids=["nodejs"])


def test_a_binary_cloudevent_reaches_the_handler(shelf: Shelf) -> None:
    answer = serve(shelf, "event").ask(body=b'{"n": 1}', headers=EVENT | JSON | {"ce-extra": "caf%C3%A9"})
    assert answer.json == {"type": "test.made", "data": {"n": 1}, "extra": "café"}


def test_a_structured_cloudevent_reaches_the_handler(shelf: Shelf) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"n": 2}}).encode()
    answer = serve(shelf, "event").ask(
        body=body, headers={"content-type": "application/cloudevents+json; charset=utf-8"}
    )
    assert answer.json == {"type": "t", "data": {"n": 2}, "extra": None}


def test_a_header_of_a_proxy_does_not_make_a_structured_event_binary(shelf: Shelf) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}).encode()
    answer = serve(shelf, "event").ask(body=body, headers=EVENT | {"content-type": "application/cloudevents+json"})
    assert answer.json["type"] == "t"


def test_an_event_without_data_reaches_the_handler(shelf: Shelf) -> None:
    assert serve(shelf, "event").ask(headers=EVENT).json == {"type": "test.made", "data": None, "extra": None}


def test_a_plain_request_reaches_the_same_handler(shelf: Shelf) -> None:
    answer = serve(shelf, "event").ask("PUT", "/some/path", body=b"text", headers={"content-type": "text/plain"})
    assert answer.json == {"method": "PUT", "body": "text", "path": "/some/path"}


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type"])
def test_what_an_event_lacks_is_said(shelf: Shelf, missing: str) -> None:
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
        (EVENT | {"ce-subject": "%ff"}, b"", "not percent-encoded UTF-8"),
        (EVENT | JSON, b"{", "not JSON"),
        (EVENT | {"content-type": "application/vnd.test+json"}, b"{", "JSON"),
    ],
)
def test_what_is_wrong_with_an_event_is_said(shelf: Shelf, headers: dict[str, str], body: bytes, words: str) -> None:
    answer = serve(shelf, "event").ask(body=body, headers=headers)
    assert answer.status == 400
    assert answer.text.startswith("not a CloudEvent: ")
    assert words.lower() in answer.text.lower() or (words == "not JSON" and "JSON" in answer.text)
    assert "Traceback" not in answer.text
    serve(shelf, "event").await_log(f"refused: {answer.text}")


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("application/json", b'"text"', "text"),
        ("application/json; charset=utf-8", b"5", 5),
        ("application/vnd.test+json", b'{"n": 1}', {"n": 1}),
        ("application/json", b"", None),
    ],
)
def test_json_data_of_every_kind_reaches_the_handler(shelf: Shelf, kind: str, body: bytes, data: Any) -> None:
    assert serve(shelf, "event").ask(body=body, headers=EVENT | {"content-type": kind}).json["data"] == data


KINDS = {
    Language.PYTHON: {"text/plain": "bytes", "application/x-www-form-urlencoded": "bytes", "image/png": "bytes"},
    Language.NODEJS: {"text/plain": "string", "application/x-www-form-urlencoded": "object", "image/png": "Buffer"},
}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_other_data_arrives_as_docs_functions_md_says(shelf: Shelf, kind: str) -> None:
    code = {
        Language.PYTHON: "def handler(event):\n    return type(event.data).__name__\n",
        Language.NODEJS: "exports.handler = ({ data }) => (Buffer.isBuffer(data) ? 'Buffer' : typeof data);\n",
    }[shelf.installed.language]
    answer = shelf.serve("kinds", code).ask(body=b"a=1", headers=EVENT | {"content-type": kind})
    assert answer.text == KINDS[shelf.installed.language][kind]


def test_binary_data_of_a_structured_event_arrives_as_bytes(shelf: Shelf) -> None:
    code = {
        Language.PYTHON: "def handler(event):\n    return event.data\n",
        Language.NODEJS: "exports.handler = (event) => event.data;\n",
    }[shelf.installed.language]
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data_base64": "AP8="}
    answer = shelf.serve("data", code).ask(body=json.dumps(event).encode(), headers=STRUCTURED)
    assert (answer.body, answer.headers["content-type"]) == (b"\0\xff", "application/octet-stream")


def test_a_handler_of_requests_gets_the_request_even_for_an_event(shelf: Shelf) -> None:
    answer = serve(shelf, "request").ask(path="/x", body=b"{}", headers=EVENT | JSON)
    assert answer.json == {"id": "1", "path": "/x"}


def test_a_returned_event_is_a_cloudevent_reply(shelf: Shelf) -> None:
    answer = serve(shelf, "reply").ask(body=b"{}", headers=EVENT | JSON)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/cloudevents+json")
    assert (answer.json["type"], answer.json["data"]) == ("test.reply", {"to": "1"})


def test_nothing_returned_is_an_empty_answer(shelf: Shelf) -> None:
    answer = serve(shelf, "nothing").ask(headers=EVENT)
    assert (answer.status, answer.body) == (204, b"")


def test_an_async_handler_is_awaited(shelf: Shelf) -> None:
    assert serve(shelf, "async").ask(headers=EVENT).json == {"id": "1"}


def test_a_failing_handler_is_a_500_that_a_broker_retries(shelf: Shelf) -> None:
    serving = serve(shelf, "raises")
    assert serving.ask(headers=EVENT).status == 500
    serving.await_log("of the function")
    assert serving.ask("GET", "/health/liveness").status == 200


@pytest.mark.parametrize("path", ["/health/liveness", "/health/readiness"])
def test_health_is_answered_without_the_handler(shelf: Shelf, path: str) -> None:
    answer = serve(shelf, "raises").ask("GET", path)
    assert (answer.status, answer.body) == (200, b"ok")


def test_a_handler_in_a_module_below_finds_its_neighbours(shelf: Shelf) -> None:
    files, handler = {
        Language.PYTHON: (
            {"pkg/__init__.py": "", "pkg/app.py": "from pkg import near\ndef run(event):\n    return near.word()\n",
             "pkg/near.py": "def word():\n    return 'near'\n"}, "pkg.app.run"),
        Language.NODEJS: (
            {"src/app.mjs": "import { word } from './near.mjs';\nexport const run = () => word();\n",
             "src/near.mjs": "export const word = () => 'near';\n"}, "src/app.run"),
    }[shelf.installed.language]  # fmt: skip
    assert shelf.serve_files("below", files, handler=handler).ask(headers=EVENT).body == b"near"


@python_only
def test_decorated_python_takes_events_only(shelf: Shelf) -> None:
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
def test_what_a_handler_returns_is_the_answer(shelf: Shelf, path: str) -> None:
    answer = serve(shelf, "returns").ask(path=path)
    status, kind, body = ANSWERS[path]
    assert (answer.status, answer.body.replace(b" ", b"").strip()) == (status, body)
    assert answer.headers.get("content-type", "").startswith(kind)


def test_headers_of_an_answer_are_sent(shelf: Shelf) -> None:
    serving = serve(shelf, "returns")
    assert serving.ask(path="/headers").headers["location"] == "/there"
    assert serving.ask(path="/cookies").headers["set-cookie"] in ("b=2", "a=1, b=2")


def test_bytes_in_a_returned_event_are_sent_in_base64(shelf: Shelf) -> None:
    reply = serve(shelf, "returns").ask(path="/event").json
    assert (base64.b64decode(reply["data_base64"]), "data" in reply) == (b"\0\xff", False)


@pytest.mark.parametrize("path", ["/wrong", "/hidden", "/unknown", "/long"])
def test_what_cannot_be_sent_is_a_500_whose_log_says_what_and_what_is_allowed(shelf: Shelf, path: str) -> None:
    serving = serve(shelf, "returns")
    answer = serving.ask(path=path)
    assert answer.status == 500
    serving.await_log(f"error {answer.headers['x-error-id']}: the handler returned ")
    assert "allowed: " in _logged(serving, answer)


def _logged(serving: Serving, answer: Answer) -> str:
    [line] = [line for line in serving.log.splitlines() if answer.headers["x-error-id"] in line]
    return line


def test_an_error_tells_the_caller_an_id_and_only_the_log_the_rest(shelf: Shelf) -> None:
    serving = serve(shelf, "secretive")
    answer = serving.ask(headers=EVENT)
    identity = answer.headers["x-error-id"]
    assert (answer.status, answer.text) == (500, f"internal error {identity}\n")
    serving.await_log(f"error {identity}: ")
    serving.await_log("password hunter2")
    after = serving.log.partition(f"error {identity}: ")[2]
    assert shelf.installed.code_file in after, "the stack names the user's file"
    assert serving.ask(headers=EVENT).headers["x-error-id"] != identity


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_handler_of_two_parameters_gets_event_and_context(shelf: Shelf) -> None:
    headers = EVENT | {"traceparent": TRACE, "tracestate": "a=1"}
    told = serve(shelf, "context").ask(path="/in", headers=headers).json
    assert len(told.pop("id")) == 16
    assert told == {
        "traceparent": TRACE, "tracestate": "a=1", "function": "hello", "revision": "hello-00001", "path": "/in",
        "event": "test.made",
    }  # fmt: skip


def test_the_trace_of_an_event_is_taken_when_the_request_has_none(shelf: Shelf) -> None:
    serving = serve(shelf, "context")
    assert serving.ask(headers=EVENT | {"ce-traceparent": TRACE}).json["traceparent"] == TRACE
    assert serving.ask(headers=EVENT | {"ce-traceparent": "x", "traceparent": TRACE}).json["traceparent"] == TRACE
    assert serving.ask(headers=EVENT).json["traceparent"] is None


def test_a_plain_request_comes_with_a_context_too(shelf: Shelf) -> None:
    told = serve(shelf, "context").ask("GET", "/some").json
    assert (told["path"], told["event"], told["traceparent"]) == ("/some", None, None)


@python_only
def test_python_parameters_decide_what_is_given(shelf: Shelf) -> None:
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
def test_nodejs_answers_500_for_what_a_request_throws_later_and_goes_on(shelf: Shelf) -> None:
    serving = serve(shelf, "returns")
    answer = serving.ask(path="/later")
    assert (answer.status, answer.text) == (500, f"internal error {answer.headers['x-error-id']}\n")
    serving.await_log("thrown later")
    assert serving.ask(path="/null").status == 500
    assert serving.ask(path="/number").json == 404


@nodejs_only
def test_nodejs_says_what_is_wrong_with_a_plain_body(shelf: Shelf) -> None:
    answer = serve(shelf, "event").ask(body=b"{", headers=JSON)
    assert answer.status == 400
    assert answer.text.startswith("the body is not JSON (")


@python_only
def test_python_answers_with_what_flask_knows(shelf: Shelf) -> None:
    serving = serve(shelf, "returns")
    aborted = serving.ask(path="/abort")
    assert (aborted.status, "no coffee" in aborted.text) == (418, True)
    assert serving.ask(path="/stream").body == b"one two"


@python_only
def test_python_numbers_and_exits_are_errors(shelf: Shelf) -> None:
    serving = serve(shelf, "returns")
    for path in ("/number", "/exit"):
        answer = serving.ask(path=path)
        assert (answer.status, answer.text) == (500, f"internal error {answer.headers['x-error-id']}\n")
    assert serving.ask(path="/text").status == 200
