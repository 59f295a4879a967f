"""The contract of functions, for Go: really compiled, as the Dockerfile does it, and really called.

Modules and the compiler's cache lie in the project's cache folder, from the very go.sum that images are built from;
where Go or the modules cannot be had, the reason is told, and in CI that is a failure.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knative_lambda.api.function import Language, Runtime
from knative_lambda.runtimes import catalog
from tests.contract.functions import EVENT, JSON, STRUCTURED, Answer, Serving, write
from tests.contract.go_functions import Workbench, workbench
from tests.testbed import processes

pytestmark = pytest.mark.contract


HANDLERS = """
package function

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

func Request(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/cut" {
		fmt.Fprint(w, "half")
		w.(http.Flusher).Flush()
		panic("of the function")
	}
	content, _ := os.ReadFile("asset.txt")
	fmt.Fprintf(w, "%s %s %s", r.Header.Get("ce-id"), r.URL.Path, content)
}

var Mux = func() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("begun")
		time.Sleep(time.Second)
		fmt.Fprint(w, "slow")
	})
	mux.HandleFunc("/stuck", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("begun")
		time.Sleep(time.Minute)
	})
	return mux
}()

func Event(ctx context.Context, event cloudevents.Event) (any, error) {
	var data map[string]any
	if len(event.Data()) > 0 {
		if err := event.DataAs(&data); err != nil {
			return nil, err
		}
	}
	switch data["do"] {
	case "reply":
		reply := cloudevents.NewEvent()
		reply.SetType("test.reply")
		reply.SetSource("/me")
		return &reply, reply.SetData("application/json", map[string]string{"to": event.ID()})
	case "fail":
		return nil, errors.New("of the function")
	case "panic":
		panic("of the function")
	case "acknowledge":
		return nil, cloudevents.ResultACK
	case "acknowledge with text":
		return "text", cloudevents.NewReceipt(true, "all is well")
	case "refuse acknowledged":
		return nil, cloudevents.NewHTTPResult(503, "%w", cloudevents.ResultACK)
	case "do not acknowledge":
		return nil, cloudevents.ResultNACK
	case "no event":
		return cloudevents.Event{}, nil
	case "pointer to no event":
		return &cloudevents.Event{}, nil
	case "kept reply":
		return kept, nil
	case "no channel":
		return (chan int)(nil), nil
	case "no function":
		return (func())(nil), nil
	case "refuse":
		return nil, cloudevents.NewHTTPResult(422, "not like this")
	case "unanswerable":
		return make(chan int), nil
	case "text":
		return "text", nil
	case "bytes":
		return []byte{1, 2}, nil
	case "nothing":
		return nil, nil
	}
	return map[string]any{"type": event.Type(), "data": data, "extra": event.Extensions()["extra"]}, nil
}

var kept = func() cloudevents.Event {
	reply := cloudevents.NewEvent()
	reply.SetType("test.reply")
	reply.SetSource("/me")
	return reply
}()

func Receive(event cloudevents.Event) cloudevents.Result {
	switch event.Subject() {
	case "acknowledge":
		return cloudevents.ResultACK
	case "do not acknowledge":
		return cloudevents.ResultNACK
	case "refuse":
		return cloudevents.NewHTTPResult(422, "not like this")
	}
	return nil
}

func Reply(event cloudevents.Event) (*cloudevents.Event, cloudevents.Result) {
	return &event, cloudevents.ResultACK
}

func Plain(event cloudevents.Event) { fmt.Println("seen " + event.ID()) }

func Odd(text string) string { return text }

func hidden(event cloudevents.Event) {}
"""


@pytest.fixture(scope="module")
def bench() -> Iterator[Workbench]:
    with workbench() as bench:
        yield bench


def do(serving: Serving, what: str) -> Answer:
    return serving.ask(body=json.dumps({"do": what}).encode(), headers=EVENT | JSON)


@pytest.fixture(scope="module")
def event(bench: Workbench) -> Serving:
    return bench.serve(bench.compile("event", {"main.go": HANDLERS}, "Event"))


@pytest.fixture(scope="module")
def request_(bench: Workbench) -> Serving:
    return bench.serve(bench.compile("request", {"main.go": HANDLERS, "asset.txt": "asset"}, "Request"))


@pytest.fixture(scope="module")
def receive(bench: Workbench) -> Serving:
    return bench.serve(bench.compile("receive", {"main.go": HANDLERS}, "Receive"))


# ---- what a handler gets ----


def test_binary_cloudevent_reaches_the_handler(event: Serving) -> None:
    answer = event.ask(body=b'{"n": 1}', headers=EVENT | JSON | {"ce-extra": "caf%C3%A9"})
    assert answer.json == {"type": "test.made", "data": {"n": 1}, "extra": "café"}
    assert answer.headers["content-type"] == "application/json"


def test_structured_cloudevent_reaches_the_handler_whatever_a_proxy_adds(event: Serving) -> None:
    body = json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"n": 2}}).encode()
    answer = event.ask(body=body, headers=EVENT | {"content-type": "application/cloudevents+json; charset=utf-8"})
    assert (answer.json["type"], answer.json["data"]) == ("t", {"n": 2})


def test_event_without_data_reaches_the_handler(event: Serving) -> None:
    assert event.ask(headers=EVENT).json["data"] is None


@pytest.mark.parametrize("missing", ["ce-specversion", "ce-id", "ce-source", "ce-type"])
def test_broken_event_never_reaches_the_handler(event: Serving, missing: str) -> None:
    headers = {name: value for name, value in EVENT.items() if name != missing}
    answer = event.ask(body=b"{}", headers=headers | JSON)
    assert answer.status == 400
    assert answer.body.startswith(b"not a CloudEvent: ")
    assert missing.removeprefix("ce-").encode() in answer.body


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/cloudevents+json"}, b"{"),
        ({"content-type": "application/cloudevents+json"}, b"[]"),
        (EVENT | {"ce-specversion": "9.9"}, b""),
        (EVENT | {"ce-extra": "%ff"}, b""),
        (EVENT | {"ce-time": "yesterday"}, b""),
        (EVENT | {"ce-source": "://x"}, b""),
        (EVENT | {"ce-dataschema": "relative"}, b""),
        (STRUCTURED, b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "dataschema": "relative"}'),
        (STRUCTURED, b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": " "}'),
        (EVENT | {"ce-datacontenttype": "a/b"}, b""),
        (EVENT | {"content-type": "no type"}, b"x"),
        (JSON, b"{}"),
    ],
)
def test_what_is_no_event_is_the_senders_fault(event: Serving, headers: dict[str, str], body: bytes) -> None:
    assert event.ask(body=body, headers=headers).status == 400


def test_handler_of_requests_gets_every_request_and_finds_its_files(request_: Serving) -> None:
    assert request_.ask(path="/x", body=b"{}", headers=EVENT | JSON).body == b"1 /x asset"


# ---- what it answers ----


def test_returned_event_is_a_cloudevent_reply(event: Serving) -> None:
    answer = do(event, "reply")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/cloudevents+json"
    assert (answer.json["type"], answer.json["data"]) == ("test.reply", {"to": "1"})
    assert answer.json["id"]


def test_text_and_bytes_go_as_they_are_and_nothing_is_an_empty_answer(event: Serving) -> None:
    found = [do(event, what) for what in ("text", "bytes", "nothing")]
    assert [(one.status, one.body) for one in found] == [(200, b"text"), (200, b"\x01\x02"), (204, b"")]


def test_status_that_the_function_asks_for_is_the_answers(event: Serving) -> None:
    assert do(event, "refuse").status == 422


def test_receipt_of_success_is_no_error(event: Serving) -> None:
    found = [do(event, what) for what in ("acknowledge", "acknowledge with text")]
    assert [(one.status, one.body) for one in found] == [(204, b""), (200, b"text")]
    failed = [do(event, what).status for what in ("do not acknowledge", "refuse acknowledged")]
    assert failed == [500, 500]


@pytest.mark.parametrize(
    ("subject", "status"), [("acknowledge", 204), ("do not acknowledge", 500), ("refuse", 422), ("", 204)]
)
def test_handler_of_the_sdk_that_returns_a_result_is_one_that_returns_an_error(
    receive: Serving, subject: str, status: int
) -> None:
    assert receive.ask(headers=EVENT | ({"ce-subject": subject} if subject else {})).status == status


def test_handler_of_the_sdk_that_returns_an_event_and_a_result_replies(bench: Workbench) -> None:
    serving = bench.serve(bench.compile("reply", {"main.go": HANDLERS}, "Reply"))
    answer = serving.ask(headers=EVENT)
    assert (answer.status, answer.json["id"]) == (200, "1")


def test_reply_that_the_function_keeps_gets_an_id_of_its_own_each_time(event: Serving) -> None:
    with ThreadPoolExecutor() as clients:
        ids = [answer.json["id"] for answer in clients.map(do, [event] * 8, ["kept reply"] * 8)]
    assert len(set(ids)) == 8


@pytest.mark.parametrize("what", ["no event", "pointer to no event"])
def test_event_without_anything_is_a_500_whose_log_says_what_is_allowed(event: Serving, what: str) -> None:
    answer = do(event, what)
    assert answer.status == 500
    event.await_log(f"error {answer.headers['x-error-id']}: the handler returned a CloudEvent that is none: ")
    [line] = [line for line in event.log.splitlines() if answer.headers["x-error-id"] in line]
    assert "allowed: " in line


@pytest.mark.parametrize("what", ["no channel", "no function"])
def test_nil_of_whatever_type_is_an_empty_answer(event: Serving, what: str) -> None:
    assert do(event, what).status == 204


@pytest.mark.parametrize("what", ["fail", "panic", "unanswerable"])
def test_failure_is_a_500_with_an_id_that_only_the_log_explains(event: Serving, what: str) -> None:
    answer = do(event, what)
    identity = re.fullmatch(r"internal error ([0-9a-f]{16})\n", answer.body.decode())
    assert answer.status == 500
    assert identity is not None
    assert answer.headers["x-error-id"] == identity[1]
    said = event.log.partition(f"error {identity[1]}: ")[2]
    assert (
        "the handler returned chan int: json: unsupported type" if what == "unanswerable" else "of the function"
    ) in said.splitlines()[0]
    assert ("main.go:" in said) or what != "panic"
    assert event.ask("GET", "/health/liveness").status == 200


def test_answer_that_has_begun_is_cut_off_when_the_handler_panics(request_: Serving) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        request_.ask(path="/cut")


@pytest.mark.parametrize("path", ["/health/liveness", "/health/readiness"])
def test_health_is_answered_without_the_handler(event: Serving, path: str) -> None:
    answer = event.ask("GET", path)
    assert (answer.status, answer.body) == (200, b"ok")


def test_log_holds_what_the_function_prints_and_nothing_else(bench: Workbench) -> None:
    serving = bench.serve(bench.compile("plain", {"main.go": HANDLERS}, "Plain"))
    assert [serving.ask(headers=EVENT).status for _ in range(2)] == [204, 204]
    assert serving.log == "seen 1\nseen 1\n"


# ---- its end ----


def test_process_that_is_told_to_end_answers_what_runs_first_and_takes_nothing_new(bench: Workbench) -> None:
    serving = bench.serve(bench.compile("mux", {"main.go": HANDLERS}, "Mux"))
    with ThreadPoolExecutor() as clients:
        asked = [clients.submit(serving.ask, "GET", "/slow") for _ in range(5)]
        processes.wait_until(lambda: serving.log == "begun\n" * 5, what="five requests under way", timeout=20)
        serving.server.signal(signal.SIGTERM)
        processes.wait_until(lambda: not processes.port_open(serving.port), what="the port closed", timeout=20)
        assert [one.result(20).body for one in asked] == [b"slow"] * 5
    assert serving.server.wait(10) == 0


def test_second_signal_ends_the_process_at_once(bench: Workbench) -> None:
    serving = bench.serve(bench.compile("again", {"main.go": HANDLERS}, "Mux"))
    with ThreadPoolExecutor() as clients:
        asked = clients.submit(serving.ask, "GET", "/stuck")
        processes.wait_until(lambda: "begun" in serving.log, what="a request", timeout=20)
        serving.server.signal(signal.SIGTERM)
        processes.wait_until(lambda: not processes.port_open(serving.port), what="the port closed", timeout=20)
        serving.server.signal(signal.SIGTERM)
        assert serving.server.wait(10) == 1
        assert isinstance(asked.exception(20), ConnectionError)


def test_idle_process_that_is_told_to_end_ends_at_once_though_a_client_stays_connected(bench: Workbench) -> None:
    serving = bench.serve(bench.run.directory("event"))
    with socket.create_connection(("127.0.0.1", serving.port)):
        began = time.monotonic()
        serving.server.signal(signal.SIGTERM)
        assert serving.server.wait(10) == 0
        assert time.monotonic() - began < 2


# ---- how it is compiled ----


def test_handler_that_cannot_be_called_is_refused_at_start(bench: Workbench) -> None:
    root = bench.compile("odd", {"main.go": HANDLERS}, "Odd")
    server = bench.run.start("odd", [root / "server"], env={"PORT": str(processes.free_port())})
    assert server.wait(20) != 0
    assert "the handler is func(string) string; it must be" in server.tail()


def test_package_main_may_be_the_functions(bench: Workbench) -> None:
    text = 'package main\n\nimport "net/http"\n\nfunc handler(w http.ResponseWriter, _ *http.Request) { word(w) }\n'
    near = 'package main\n\nimport (\n\t"fmt"\n\t"io"\n)\n\nfunc word(w io.Writer) { fmt.Fprint(w, "near") }\n'
    serving = bench.serve(bench.compile("main", {"main.go": text, "near.go": near}, "handler"))
    assert serving.ask("GET").body == b"near"


def test_package_below_finds_its_neighbours_in_the_functions_own_module(bench: Workbench) -> None:
    files = {
        "go.mod": "module example.com/shop\n\ngo 1.22\n",
        "orders/intake/take.go": (
            'package intake\n\nimport (\n\t"net/http"\n\n\t"example.com/shop/internal/near"\n)\n\n'
            "func Take(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(near.Word)) }\n"
        ),
        "internal/near/near.go": 'package near\n\nconst Word = "near"\n',
        "orders/intake/take_test.go": 'package intake\n\nimport _ "example.com/only/tests"\n',
    }
    serving = bench.serve(bench.compile("below", files, "orders/intake.Take"))
    assert serving.ask("GET").body == b"near"


def test_versions_of_the_functions_own_go_mod_count(bench: Workbench) -> None:
    files = {
        "go.mod": "module shop\n\ngo 1.23\n\nrequire go.uber.org/atomic v1.11.0\n",
        "main.go": (
            'package shop\n\nimport (\n\t"net/http"\n\n\t"go.uber.org/atomic"\n)\n\nvar seen atomic.Int64\n\n'
            "func Handler(w http.ResponseWriter, _ *http.Request) { w.Write([]byte{byte(seen.Inc())}) }\n"
        ),
    }
    root = bench.compile("module", files)
    assert bench.serve(root).ask("GET").body == b"\x01"
    built = subprocess.run(["go", "version", "-m", root / "server"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"go\.uber\.org/atomic\s+v1\.11\.0", built)
    assert re.search(r"functions-framework-go\s+v1\.9\.2", built)


@pytest.mark.parametrize(
    ("files", "handler", "words"),
    [
        ({"main.go": HANDLERS}, "Absent", "the package . has no function Absent"),
        ({"main.go": HANDLERS}, "hidden", "begin its name with a capital"),
        ({"main.go": HANDLERS}, "main.a-b", '"a-b" is no name in Go'),
        ({"main.go": "package main\n\nfunc main() {}\n\nfunc Handler() {}\n"}, None, "function main of its own"),
        ({"main.go": "package function\n\nfunc Handler( {\n"}, None, "main.go:3:"),
        ({"main.go": "package function\n\nvar Handler = missing\n"}, None, "undefined: missing"),
        ({"main.go": "package a\n\nfunc Handler() {}\n", "b.go": "package b\n"}, None, "found packages"),
        ({"main.go": HANDLERS}, "other.Handler", "the package other"),
        ({"main.go": HANDLERS, "go.mod": "module shop\n\ngo 9.99\n"}, "Event", "requires go >= 9.99"),
        ({"main.go": HANDLERS, "go.mod": "modul shop\n"}, "Event", "go.mod:1: unknown directive: modul"),
        (
            {"main.go": 'package a\n\nimport "github.com/nobody/nothing"\n\nvar Handler = nothing.Handler\n'},
            None,
            "main.go:3:8: no module of go.mod provides github.com/nobody/nothing: run `go get",
        ),
    ],
)
def test_mistake_is_told_in_plain_words(
    bench: Workbench, files: dict[str, str], handler: str | None, words: str
) -> None:
    name = f"wrong-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    with pytest.raises(AssertionError) as caught:
        bench.compile(name, files, handler)
    assert words in str(caught.value)


def test_program_is_static_and_names_no_path_of_this_machine(bench: Workbench) -> None:
    server = bench.run.directory("event") / "server"
    assert str(bench.run.folder).encode() not in server.read_bytes()
    built = subprocess.run(["go", "version", "-m", server], capture_output=True, text=True, check=True).stdout
    assert "CGO_ENABLED=0" in built


def test_dockerfile_makes_the_image_step_by_step(bench: Workbench) -> None:
    """Its first stage is played here, in a folder that stands for the root of the image."""
    context, root = bench.run.directory("context"), bench.run.directory("root")
    text = catalog.RUNTIMES[Language.GO].context_files(Runtime(language=Language.GO, handler="Plain"))
    written = {**text, "dependencies/go.mod": b"module function\n", "function/main.go": HANDLERS.encode()}
    for path, content in written.items():
        write(context / path, content)
    first, last = text["Dockerfile"].decode().replace("\\\n", "").split("\nFROM ")[1:]
    _play(first.splitlines(), context=context, root=root, environment=dict(bench.environment))
    assert last.startswith("scratch\n")
    made = {path.relative_to(root / "out").as_posix() for path in (root / "out").rglob("*")}
    assert made >= {"app/server", "etc/ssl/certs/ca-certificates.crt", "etc/passwd", "tmp"}
    assert (root / "out/tmp").stat().st_mode & 0o7777 == 0o1777
    (root / "out/app/function").mkdir()
    serving = bench.serve(root / "out/app")
    assert serving.ask(headers=EVENT).status == 204


def _play(lines: list[str], *, context: Path, root: Path, environment: dict[str, str]) -> None:
    folder = root
    for line in lines:
        word, _, rest = line.partition(" ")
        here = re.sub(r"(?<=[ =])/(build|out)\b", rf"{root}/\1", f" {rest}")
        if word == "ENV":
            environment |= dict(part.partition("=")[::2] for part in shlex.split(rest))
        elif word == "WORKDIR":
            folder = Path(here.strip())
            folder.mkdir(parents=True)
        elif word == "COPY":
            *sources, target = shlex.split(here)
            _copy([context / source for source in sources], Path(target))
        elif word == "RUN":
            command = ["/bin/sh", "-ec", here]
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"


def _copy(sources: list[Path], target: Path) -> None:
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
