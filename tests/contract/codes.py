"""The same functions in every language, by the names that test_runtime_shims gives them."""

from __future__ import annotations

from knative_lambda.api.function import Language

GO_EVENT = 'package f\nimport ("encoding/json"; cloudevents "github.com/cloudevents/sdk-go/v2")\n'
CODE: dict[Language, dict[str, str]] = {
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
        "breaks": """
def handler(event):
    yield "half"
    raise RuntimeError("the body broke")
""",
        "kinds": "def handler(event):\n    return type(event.data).__name__\n",
        "data": "def handler(event):\n    return event.data\n",
        "json": "def handler(request):\n    return {'is': request.get_json()}\n",
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
        "headers, then an error": """
exports.handler = (request, response) => {
  response.set('set-cookie', 'a=secret');
  throw new Error('of the function');
};
""",
        "breaks": """
exports.handler = (request, response) => new Promise((resolve, reject) => {
  response.write('half', () => reject(new Error('the body broke')));
});
""",
        "kinds": "exports.handler = ({ data }) => (Buffer.isBuffer(data) ? 'Buffer' : typeof data);\n",
        "data": "exports.handler = (event) => event.data;\n",
        "json": "exports.handler = (event) => ({ is: event.body });\n",
    },
    Language.GO: {
        "event": GO_EVENT
        + """
func Handler(event cloudevents.Event) (any, error) {
	var data any
	if content := event.Data(); len(content) > 0 {
		if err := json.Unmarshal(content, &data); err != nil {
			return nil, err
		}
	}
	return map[string]any{"type": event.Type(), "data": data, "extra": event.Extensions()["extra"]}, nil
}
""",
        "plain": """package f
import ("io"; "net/http")
func Handler(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	return map[string]any{"method": r.Method, "body": string(body), "path": r.URL.Path}, err
}
""",
        "request": """package f
import "net/http"
func Handler(r *http.Request) any {
	return map[string]any{"id": r.Header.Get("ce-id"), "path": r.URL.Path}
}
""",
        "reply": """package f
import cloudevents "github.com/cloudevents/sdk-go/v2"
func Handler(event cloudevents.Event) (cloudevents.Event, error) {
	reply := cloudevents.NewEvent()
	reply.SetType("test.reply")
	reply.SetSource("/me")
	reply.SetID("r-1")
	return reply, reply.SetData("application/json", map[string]string{"to": event.ID()})
}
""",
        "nothing": """package f
import cloudevents "github.com/cloudevents/sdk-go/v2"
func Handler(event cloudevents.Event) {}
""",
        "raises": """package f
import ("errors"; cloudevents "github.com/cloudevents/sdk-go/v2")
func Handler(event *cloudevents.Event) error { return errors.New("of the function") }
""",
        "returns": """package f
import ("io"; "net/http"; "strings"; cloudevents "github.com/cloudevents/sdk-go/v2")
func said(status int, body string, headers http.Header) *http.Response {
	return &http.Response{StatusCode: status, Header: headers, Body: io.NopCloser(strings.NewReader(body))}
}
func event() cloudevents.Event {
	made := cloudevents.NewEvent()
	made.SetType("t")
	made.SetSource("/me")
	made.SetID("7")
	_ = made.SetData("application/octet-stream", []byte{0, 255})
	return made
}
var answers = map[string]any{
	"/dict":    map[string]any{"a": []any{1, nil}},
	"/list":    []any{1, map[string]int{"b": 2}},
	"/text":    "caf\u00e9",
	"/bytes":   []byte{0, 255},
	"/nothing": nil,
	"/event":   event(),
	"/wrong":   make(chan int),
	"/hidden":  map[string]any{"a": func() {}},
	"/number":  404,
	"/long":    cloudevents.NewEvent(),
}
func Handler(r *http.Request) (any, error) {
	switch r.URL.Path {
	case "/status":
		return said(201, `{"made":true}`, http.Header{"Content-Type": {"application/json"}}), nil
	case "/headers":
		return said(303, "moved", http.Header{"Location": {"/there"}, "content-type": {"text/plain"}}), nil
	case "/empty":
		return &http.Response{StatusCode: 202}, nil
	case "/cookies":
		return said(0, "", http.Header{"Set-Cookie": {"a=1", "b=2"}}), nil
	case "/unknown":
		return &http.Response{StatusCode: 99}, nil
	}
	return answers[r.URL.Path], nil
}
""",
        "context": GO_EVENT.replace('"encoding/json"', '"context"; "net/http"')
        + """
func Handler(ctx context.Context, event cloudevents.Event) any {
	told := map[string]any{"path": ctx.Value("request").(*http.Request).URL.Path, "event": event.Type()}
	for _, name := range []string{"id", "traceparent", "tracestate", "function", "revision"} {
		told[name] = ctx.Value(name).(string)
	}
	return told
}
""",
        "plain context": """package f
import ("context"; "net/http")
func Handler(ctx context.Context, r *http.Request) any {
	told := map[string]any{"path": r.URL.Path, "event": nil, "unknown": ctx.Value("unknown")}
	for _, name := range []string{"id", "traceparent", "function"} {
		told[name] = r.Context().Value(name)
	}
	return told
}
""",
        "secretive": GO_EVENT.replace('"encoding/json"', '"fmt"')
        + """
func Handler(event cloudevents.Event) { fail(event.Data()) }
func fail([]byte) {
	defer func() { panic(fmt.Sprint("again: ", recover())) }()
	origin()
}
func origin() { panic("password hunter2") }
""",
        "waits": """package f
import ("context"; "fmt"; cloudevents "github.com/cloudevents/sdk-go/v2")
func Handler(ctx context.Context, event cloudevents.Event) {
	fmt.Println("waits")
	<-ctx.Done()
	fmt.Println("cancelled")
}
""",
        "breaks": """package f
import ("errors"; "io"; "net/http"; "strings")
func Handler(r *http.Request) *http.Response {
	return &http.Response{Body: io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{}))}
}
type broken struct{}
func (broken) Read([]byte) (int, error) { return 0, errors.New("the body broke") }
""",
        "headers, then an error": """package f
import "net/http"
func Handler(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Set-Cookie", "a=secret")
	panic("of the function")
}
""",
        "kinds": GO_EVENT.replace('"encoding/json"', '"fmt"')
        + """
func Handler(event cloudevents.Event) string { return fmt.Sprintf("%T", event.Data()) }
""",
        "data": GO_EVENT.replace('"encoding/json"; ', "")
        + """
func Handler(event cloudevents.Event) []byte { return event.Data() }
""",
    },
}
