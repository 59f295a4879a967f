"""How a function's process starts, takes many requests at once, and ends; the same in every language.

Knative's probe is a connection to the port: who listens is ready, so nothing may listen before the function is loaded.
"""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from knative_lambda.api.function import Language
from tests.contract.functions import EVENT, LANGUAGES, Answer, Serving, language_shelf, listens_within
from tests.contract.go_functions import AnyShelf, GoShelf, any_shelf
from tests.testbed import processes

pytestmark = pytest.mark.contract

SLOW = {
    Language.PYTHON: """
import time
def handler(event):
    print("began", flush=True)
    time.sleep(1)
    return "done"
""",
    Language.NODEJS: """
exports.handler = () => new Promise((resolve) => {
  console.log('began');
  setTimeout(() => resolve('done'), 1000);
});
""",
    Language.GO: """package f
import ("fmt"; "net/http"; "time")
func Handler(*http.Request) string {
	fmt.Println("began")
	time.Sleep(time.Second)
	return "done"
}
""",
}
ODD = {
    Language.PYTHON: """
import os, time
def handler(request):
    if request.path == "/hang":
        print("hangs", flush=True)
        time.sleep(3600)
    if request.path == "/exit":
        os._exit(5)
    return "fine"
""",
    Language.NODEJS: """
exports.handler = (event) => {
  if (event.path === '/exit') process.exit(5);
  if (event.path !== '/hang') return 'fine';
  console.log('hangs');
  return new Promise(() => {});
};
""",
    Language.GO: """package f
import ("fmt"; "net/http"; "os")
func Handler(r *http.Request) string {
	switch r.URL.Path {
	case "/hang":
		fmt.Println("hangs")
		select {}
	case "/exit":
		os.Exit(5)
	case "/later":
		go panic("in a goroutine of its own")
		select {}
	}
	return "fine"
}
""",
}
SLOW_TO_LOAD = {
    Language.PYTHON: {"main.py": "import time\ntime.sleep(1)\ndef handler(event):\n    return 'loaded'\n"},
    Language.NODEJS: {
        "index.mjs": "await new Promise((on) => setTimeout(on, 1000));\nexport const handler = () => 'loaded';\n"
    },
    Language.GO: {
        "main.go": """package f
import ("net/http"; "os"; "time")
func init() {
	if os.Getenv("TESTED_HANDLER") == "loading" {
		time.Sleep(time.Second)
	}
}
func Handler(*http.Request) string { return "loaded" }
"""
    },
}
GO_BROKEN = {
    "panics": ('panic("at load")', "panic: at load"),
    "ends": ('println("at load")\n\t\tos.Exit(4)', "at load"),
}
GO_CODES = {
    **dict.fromkeys(("slow", "idle", "many"), SLOW[Language.GO]),
    "loading": SLOW_TO_LOAD[Language.GO]["main.go"],
    **dict.fromkeys(("hangs", "exits", "later"), ODD[Language.GO]),
    "odd": "package f\nfunc Handler(text string) string { return text }\n",
    "two": 'package f\nimport "net/http"\nfunc Handler(r *http.Request) (string, string) { return "", "" }\n',
    **{
        name: f"""package f
import ("net/http"; "os")
func init() {{
	if os.Getenv("TESTED_HANDLER") == "{name}" {{
		{code}
	}}
}}
func Handler(*http.Request) {{}}
"""
        for name, (code, _) in GO_BROKEN.items()
    },
}
BROKEN: dict[str, tuple[Language, Mapping[str, str], str]] = {
    "python: another name": (Language.PYTHON, {"main.py": "def other(event):\n    return 1\n"}, "it has: other"),
    "python: no module": (Language.PYTHON, {"app.py": "def handler(event):\n    return 1\n"}, "No module named 'main'"),
    "python: import": (Language.PYTHON, {"main.py": "import absent_one\n"}, "No module named 'absent_one'"),
    "python: syntax": (Language.PYTHON, {"main.py": "def handler(event)\n"}, "SyntaxError"),
    "python: raises": (Language.PYTHON, {"main.py": "raise RuntimeError('at load')\n"}, "RuntimeError: at load"),
    "python: exits": (Language.PYTHON, {"main.py": "import sys\nsys.exit(0)\n"}, "SystemExit"),
    "python: no parameter": (Language.PYTHON, {"main.py": "def handler():\n    return 1\n"}, "it has 0"),
    "python: three parameters": (Language.PYTHON, {"main.py": "def handler(a, b, c):\n    return 1\n"}, "it has 3"),
    "nodejs: another name": (Language.NODEJS, {"index.js": "exports.other = () => 1;\n"}, "it has: other"),
    "nodejs: no module": (Language.NODEJS, {"app.js": "exports.handler = () => 1;\n"}, "none of index.js"),
    "nodejs: import": (Language.NODEJS, {"index.js": "require('absent-one');\n"}, "Cannot find module 'absent-one'"),
    "nodejs: syntax": (Language.NODEJS, {"index.js": "exports.handler = (event =>\n"}, "SyntaxError"),
    "nodejs: throws": (Language.NODEJS, {"index.js": "throw new Error('at load');\n"}, "at load"),
    "nodejs: rejects": (Language.NODEJS, {"index.mjs": "await Promise.reject(new Error('at load'));\n"}, "at load"),
    "nodejs: rejects unseen": (
        Language.NODEJS,
        {"index.mjs": "Promise.reject(new Error('unseen'));\nawait new Promise((on) => setTimeout(on, 500));\n"},
        "unseen",
    ),
    "nodejs: never": (Language.NODEJS, {"index.mjs": "await new Promise(() => {});\n"}, "cannot be loaded"),
    "nodejs: exits": (Language.NODEJS, {"index.js": "process.exit(0);\n"}, "cannot be loaded"),
}


@pytest.fixture(scope="module", params=[*LANGUAGES, Language.GO], ids=lambda language: language.value)
def shelf(request: pytest.FixtureRequest) -> Iterator[AnyShelf]:
    with any_shelf(request.param, GO_CODES) as shelf:
        yield shelf


go_only = pytest.mark.parametrize("shelf", [Language.GO], indirect=True, ids=["go"])
interpreted = pytest.mark.parametrize("shelf", LANGUAGES, indirect=True, ids=lambda language: language.value)


def code_of(shelf: AnyShelf, code: Mapping[Language, str]) -> Mapping[str, str]:
    return {shelf.code_file: code[shelf.language]}


def started(shelf: AnyShelf, name: str, files: Mapping[str, str], **environment: str) -> Serving:
    serving = shelf.start(name, files, **environment)
    serving.server.await_ready(lambda: processes.port_open(serving.port), timeout=60)
    return serving


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_loaded_never_listens_and_says_why(what: str) -> None:
    language, files, words = BROKEN[what]
    with language_shelf(language) as shelf:
        serving = shelf.start("broken", files)
        assert not listens_within(serving, 60)
        assert serving.server.wait(10) not in (0, -signal.SIGTERM)
        assert words in serving.log
        assert "node:internal" not in serving.log
        assert "lambda_shim.py" not in serving.log
        assert "lambda-shim.cjs" not in serving.log.partition("Require stack")[0]
        assert len(serving.log.splitlines()) < 15


@go_only
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("odd", "the function cannot be served: the handler is func(string) string; it must be "),
        ("two", "the function cannot be served: the handler is func(*http.Request) (string, string); it must be "),
        ("absent", "the function cannot be served: the handler is <nil>; it must be "),
        *((name, words) for name, (_, words) in GO_BROKEN.items()),
    ],
)
def test_go_that_cannot_begin_never_listens_and_says_why(shelf: GoShelf, name: str, words: str) -> None:
    """What cannot be compiled is in test_go_shim."""
    serving = shelf.start(name)
    assert not listens_within(serving, 20)
    assert serving.server.wait(10) not in (0, -signal.SIGTERM)
    assert words in serving.log


def test_a_handler_that_hangs_holds_up_nobody_else(shelf: AnyShelf) -> None:
    serving = started(shelf, "hangs", code_of(shelf, ODD))
    with ThreadPoolExecutor() as pool:
        hanging = pool.submit(serving.ask, path="/hang")
        serving.await_log("hangs")
        assert serving.ask(path="/").text == "fine"
        assert serving.ask("GET", "/health/liveness").text == "ok"
        assert not hanging.done()
        serving.server.stop(grace=0)
        assert isinstance(hanging.exception(20), (ConnectionError, http.client.HTTPException))


def test_a_handler_that_ends_the_process_gives_no_answer_and_never_a_good_one(shelf: AnyShelf) -> None:
    serving = started(shelf, "exits", code_of(shelf, ODD))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        serving.ask(path="/exit")
    if shelf.language is not Language.PYTHON:
        assert serving.server.wait(10) == 5
        return
    processes.wait_until(lambda: _fine(serving), what="gunicorn's next process", timeout=20)


def _fine(serving: Serving) -> bool:
    try:
        return serving.ask(path="/").text == "fine"
    except (ConnectionError, http.client.HTTPException):
        return False


@go_only
def test_go_ends_after_a_panic_that_belongs_to_no_request(shelf: GoShelf) -> None:
    serving = started(shelf, "later", {})
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        serving.ask(path="/later")
    assert serving.server.wait(10) == 2
    assert "panic: in a goroutine of its own" in serving.log


def test_nothing_listens_before_the_function_is_loaded(shelf: AnyShelf) -> None:
    began = time.monotonic()
    serving = started(shelf, "loading", SLOW_TO_LOAD[shelf.language])
    assert time.monotonic() - began > 1
    assert serving.ask("GET", "/health/readiness").text == "ok"
    assert serving.ask(headers=EVENT).text == "loaded"


def test_running_requests_finish_after_sigterm_and_the_process_ends_well(shelf: AnyShelf) -> None:
    serving = started(shelf, "slow", code_of(shelf, SLOW))
    with ThreadPoolExecutor() as pool:
        answers: list[Future[Answer]] = [pool.submit(serving.ask) for _ in range(3)]
        processes.wait_until(lambda: serving.log.count("began") == 3, what="three requests that run", timeout=10)
        os.kill(serving.server.pid, signal.SIGTERM)
        assert [(answer.result().status, answer.result().body) for answer in answers] == [(200, b"done")] * 3
    assert serving.server.wait(5) == 0
    assert not processes.port_open(serving.port)


def test_an_idle_process_ends_at_once_after_sigterm(shelf: AnyShelf) -> None:
    serving = started(shelf, "idle", code_of(shelf, SLOW))
    began = time.monotonic()
    os.kill(serving.server.pid, signal.SIGTERM)
    assert serving.server.wait(10) == 0
    assert time.monotonic() - began < 3


def test_ten_requests_run_at_once(shelf: AnyShelf) -> None:
    """As many as a function's targetConcurrency is by default, on a machine of any size."""
    serving = started(shelf, "many", code_of(shelf, SLOW))
    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: serving.ask().status, range(10)))
    assert (answers, time.monotonic() - began < 3) == ([200] * 10, True)


@interpreted
def test_async_handlers_share_what_their_module_keeps(shelf: AnyShelf) -> None:
    code = {
        Language.PYTHON: """
import asyncio
first = asyncio.Event()
async def handler(request):
    if request.path == "/wait":
        await asyncio.wait_for(first.wait(), 10)
    first.set()
    return request.path
""",
        Language.NODEJS: """
let go; const first = new Promise((resolve) => { go = resolve; });
exports.handler = async (event) => {
  if (event.path === '/wait') await first;
  go();
  return event.path;
};
""",
    }
    serving = started(shelf, "shared", code_of(shelf, code))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(serving.ask, path="/wait")
        time.sleep(0.3)
        assert serving.ask(path="/go").text == "/go"
        assert waiting.result().text == "/wait"


def test_python_runs_as_many_requests_at_once_as_threads_says() -> None:
    with language_shelf(Language.PYTHON) as shelf:
        serving = started(shelf, "one-thread", code_of(shelf, SLOW), THREADS="1")
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            assert [answer.status for answer in pool.map(lambda _: serving.ask(), range(2))] == [200, 200]
        assert time.monotonic() - began >= 2


def test_nodejs_answers_500_for_a_rejection_of_a_request_that_nothing_handles_and_goes_on() -> None:
    code = """
exports.handler = (event) => {
  if (event.path === '/fine') return 'fine';
  Promise.reject(new Error('nobody sees this'));
  return event.path === '/answered' ? 'answered' : new Promise(() => {});
};
"""
    with language_shelf(Language.NODEJS) as shelf:
        serving = started(shelf, "rejects", {"index.js": code})
        answer = serving.ask()
        assert (answer.status, answer.text) == (500, f"internal error {answer.headers['x-error-id']}\n")
        serving.await_log("nobody sees this")
        assert serving.ask(path="/answered").text == "answered"
        assert serving.ask(path="/fine").text == "fine"


def test_nodejs_ends_after_what_belongs_to_no_request_and_tells_who_waits() -> None:
    code = """
let go; new Promise((resolve) => { go = resolve; }).then(() => { throw new Error('nobody sees this'); });
exports.handler = (event) => {
  console.log(`at ${event.path}`);
  if (event.path === '/go') setImmediate(go);
  return new Promise(() => {});
};
setInterval(() => undefined, 1000);
"""
    with language_shelf(Language.NODEJS) as shelf:
        serving = started(shelf, "rejects-outside", {"index.js": code})
        with ThreadPoolExecutor() as pool:
            waiting = [pool.submit(serving.ask, path="/wait")]
            serving.await_log("at /wait")
            waiting.append(pool.submit(serving.ask, path="/go"))
            assert [one.result().status for one in waiting] == [500, 500]
        assert serving.server.wait(5) == 1
        assert "nobody sees this" in serving.log
        assert "nobody sees this" not in waiting[0].result().text
