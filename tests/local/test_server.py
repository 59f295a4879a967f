"""Functions as real processes: cold starts, scaling, revisions, and what bad functions do to this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from knative_lambda.api import kinds
from knative_lambda.api.meta import Key
from knative_lambda.local.building.images import LocalImage
from knative_lambda.local.serving import proc, revisions
from knative_lambda.local.serving.instance import Revision, Starter
from knative_lambda.local.serving.limits import DATA_ROOM
from knative_lambda.local.serving.server import ProcessServer, Replicas
from knative_lambda.resources import observed
from tests.local.stage import NAMESPACE, QUICK, Stage, alive, condition, service, staged, until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are read from /proc")

HELLO = Key(NAMESPACE, "hello")
FAST_TO_ZERO = {"scale-to-zero-pod-retention-period": "0s"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        yield stage


async def at_zero(stage: Stage, name: str = "hello") -> None:
    await until(lambda: stage.server.replicas(Key(NAMESPACE, name)) == Replicas(0, 0, 0))


# ---- a good life ----


async def test_a_service_becomes_ready_as_the_controller_reads_it(stage: Stage) -> None:
    await stage.apply("hello", env={"WORD": "one"})
    seen = observed.project_service(await stage.settled("hello"))
    assert seen.readiness.status == "True"
    assert (seen.url, seen.address) == (f"http://hello.apps.localhost:{stage.options.port}",) * 2
    assert seen.revision == "hello-00001"
    assert (await stage.ask("hello")).body == b"one"


async def test_a_function_scales_to_zero_and_a_request_brings_it_back(stage: Stage) -> None:
    await stage.apply("hello", annotations=FAST_TO_ZERO)
    await stage.settled("hello")
    first = (await stage.ask("hello", "/pid")).body
    await at_zero(stage)
    assert condition(await stage.read("hello"), "Ready")["status"] == "True"
    await until(lambda: not alive(int(first)))
    answers = await asyncio.gather(*(stage.ask("hello", "/pid") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.body for answer in answers}.isdisjoint({first})


async def test_a_call_waits_for_a_cold_start_without_the_listener(stage: Stage) -> None:
    await stage.apply("hello", annotations=FAST_TO_ZERO, env={"SLOW": "0.3"})
    await stage.settled("hello")
    await at_zero(stage)
    answer = await stage.server.call(HELLO, {"ce-id": "7", "Connection": "ce-drop", "ce-drop": "x"}, b'{"n": 1}')
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["set-cookie"] == "a=1, b=2"
    assert (await stage.server.call(Key(NAMESPACE, "nobody"), {}, b"")).status == 404


async def test_load_starts_more_instances_and_they_go_again(stage: Stage) -> None:
    await stage.apply("hello", annotations={"target": "2", "max-scale": "3", "min-scale": "1"})
    await stage.settled("hello")
    asking = [asyncio.create_task(stage.ask("hello", "/sleep?1")) for _ in range(12)]
    await until(lambda: stage.server.replicas(HELLO).running == 3)
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
    await until(lambda: stage.server.replicas(HELLO) == Replicas(1, 0, 0))


async def test_a_hard_limit_is_never_passed(stage: Stage) -> None:
    await stage.apply("hello", annotations={"max-scale": "2"}, hard_limit=1)
    await stage.settled("hello")
    answers = await asyncio.gather(*(stage.ask("hello", "/crowd?0.4") for _ in range(8)))
    told = [orjson.loads(answer.body) for answer in answers]
    assert {here for _, here in told} == {1}
    assert len({pid for pid, _ in told}) == 2


async def test_a_new_revision_takes_over_without_a_failed_request(stage: Stage) -> None:
    await stage.apply("hello", env={"WORD": "1"}, annotations={"target": "5"})
    await stage.settled("hello")
    heard: list[tuple[int, bytes]] = []
    over = asyncio.Event()

    async def keep_asking() -> None:
        while not over.is_set():
            answer = await stage.ask("hello", "/word", method="POST", body=b"x")
            heard.append((answer.status, answer.body))

    asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
    for word in ("2", "3", "4"):
        await asyncio.sleep(0.2)
        await stage.apply("hello", env={"WORD": word}, annotations={"target": "5"})
        await stage.settled("hello")
    await asyncio.sleep(0.2)
    over.set()
    await asyncio.gather(*asking)
    assert {status for status, _ in heard} == {200}
    assert {word for _, word in heard} == {b"1", b"2", b"3", b"4"}
    assert (await stage.read("hello"))["status"]["latestReadyRevisionName"] == "hello-00004"
    assert len(heard) > 20


async def test_a_request_that_runs_is_finished_by_the_old_revision(stage: Stage) -> None:
    await stage.apply("hello", env={"WORD": "old"})
    await stage.settled("hello")
    old = (await stage.ask("hello", "/pid")).body
    running = asyncio.create_task(stage.ask("hello", "/sleep?1"))
    await asyncio.sleep(0.1)
    await stage.apply("hello", env={"WORD": "new"})
    await stage.settled("hello")
    assert (await stage.ask("hello")).body == b"new"
    answer = await running
    assert (answer.status, answer.body) == (200, old)
    await until(lambda: not alive(int(old)))


async def test_the_old_revision_goes_on_while_the_new_one_fails(stage: Stage) -> None:
    await stage.apply("hello", env={"WORD": "good"})
    await stage.settled("hello")
    broken = stage.image("import module_that_is_not_there\n", name="broken")
    await stage.apply("hello", image=broken)
    found = await stage.settled("hello", status="False")
    told = condition(found, "ConfigurationsReady")
    assert told["reason"] == "RevisionFailed"
    assert 'Revision "hello-00002" failed with message: Container failed with: exit code 1' in told["message"]
    assert "No module named 'module_that_is_not_there'" in told["message"]
    assert condition(found, "RoutesReady")["status"] == "True"
    assert found["status"]["latestReadyRevisionName"] == "hello-00001"
    assert (await stage.ask("hello")).body == b"good"
    assert stage.server.images() == {stage.image(), broken}, "what runs must not be deleted to make room"
    await stage.apply("hello", env={"WORD": "mended"})
    await stage.settled("hello")
    assert (await stage.ask("hello")).body == b"mended"


# ---- what a process gets ----


async def test_a_process_gets_a_clean_environment_and_a_folder_of_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_OWN_SECRET", "never seen")
    for kind, obj in (
        (kinds.SECRET, {"metadata": {"name": "s", "namespace": NAMESPACE}, "data": {"k": "aGlkZGVu"}}),
        (kinds.CONFIG_MAP, {"metadata": {"name": "c", "namespace": NAMESPACE}, "data": {"k": "shown"}}),
    ):
        await stage.cluster.create(kind, obj)
    variables = [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": True}}},
    ]
    await stage.apply("hello", variables=variables)
    await stage.settled("hello")
    seen = orjson.loads((await stage.ask("hello", "/env")).body)
    assert (seen["A"], seen["B"], seen["K_SERVICE"], seen["K_CONFIGURATION"]) == ("hidden", "shown", "hello", "hello")
    assert (seen["K_REVISION"], seen["FROM_IMAGE"]) == ("hello-00001", "yes")
    assert set(seen) - {"LC_CTYPE", "cwd"} == {
        "PATH", "FROM_IMAGE", "A", "B", "HOME", "TMPDIR", "PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"
    }  # fmt: skip
    folder = Path(seen["HOME"]).parent
    assert folder.is_relative_to(stage.state / "instances")
    assert Path(seen["TMPDIR"]).parent == folder
    assert Path(seen["cwd"]).samefile(stage.folder / "images" / "program")


async def test_a_missing_secret_is_told_and_its_coming_heals(stage: Stage) -> None:
    variables = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "later", "key": "k"}}}]
    await stage.apply("hello", variables=variables)
    found = await stage.settled("hello", status="False")
    assert 'secret "later" not found' in condition(found, "ConfigurationsReady")["message"]
    secret = {"metadata": {"name": "later", "namespace": NAMESPACE}, "data": {"k": "aGk="}}
    await stage.cluster.create(kinds.SECRET, secret)
    await stage.settled("hello")
    assert orjson.loads((await stage.ask("hello", "/env")).body)["A"] == "hi"


async def test_resources_become_limits(stage: Stage) -> None:
    await stage.apply("hello", memory="100Mi")
    await stage.settled("hello")
    limits = orjson.loads((await stage.ask("hello", "/limits")).body)
    assert (limits["RLIMIT_CORE"], limits["RLIMIT_FSIZE"], limits["RLIMIT_NOFILE"]) == (0, 8 << 20, 4096)
    assert limits["RLIMIT_DATA"] == (100 << 20) + DATA_ROOM
    assert len(limits["processors"]) == 1
    assert limits["RLIMIT_NPROC"] >= stage.options.tasks
    assert (await stage.ask("hello", f"/write?{1 << 20}")).status == 200
    assert (await stage.ask("hello", f"/write?{9 << 20}")).status == 502


async def test_two_functions_share_a_processor_only_where_there_is_one(stage: Stage) -> None:
    used = []
    for name in ("hello", "again"):
        await stage.apply(name)
        await stage.settled(name)
        used += orjson.loads((await stage.ask(name, "/limits")).body)["processors"]
    assert len(set(used)) == min(2, len(os.sched_getaffinity(0)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_root_runs_functions_as_users_whom_nothing_belongs_to() -> None:
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if python is None:
        pytest.skip("there is no python3 outside of a closed folder")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        async with staged(folder) as stage:
            reference = stage.image()
            image = stage.images[reference]
            command = (python, "-S", image.command[-1])
            stage.images[reference] = LocalImage(image.digest, image.folder, command, {}, "python")
            await stage.apply("hello", image=reference)
            await stage.settled("hello")
            limits = orjson.loads((await stage.ask("hello", "/limits")).body)
            assert 61184 <= limits["user"] <= 65519
            assert limits["RLIMIT_NPROC"] == 2 * stage.options.tasks
            assert stage.remarks == []
            assert (await stage.ask("hello", "/write?1000")).status == 200
            children = orjson.loads((await stage.ask("hello", "/fork")).body)
        assert not any(map(alive, children))
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_root_is_told_once_when_functions_keep_its_rights(stage: Stage) -> None:
    stage.folder.chmod(0o700)
    for name in ("hello", "again"):
        await stage.apply(name)
        await stage.settled(name)
    assert orjson.loads((await stage.ask("hello", "/limits")).body)["user"] == 0
    [told] = stage.remarks
    assert told.startswith("functions run with root's rights, for another user may not enter /")


# ---- requests ----


async def test_a_request_arrives_as_it_was_sent(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    sent = {
        "traceparent": "00-1-2-3", "connection": "x-hop", "x-hop": "1", "x-kept": "2", "te": "trailers",
        "content-type": "application/cloudevents+json",
    }  # fmt: skip
    answer = await stage.ask("hello", "/echo/a%2Fb/../c?q=1&q=%20", method="POST", body=b"body", headers=sent)
    seen = orjson.loads(answer.body)
    assert (seen["path"], seen["body"]) == ("/echo/a%2Fb/../c?q=1&q=%20", "body") or seen["path"] == "/echo/c?q=1&q=%20"
    names = [name for name, _ in seen["headers"]]
    assert ["traceparent", "00-1-2-3"] in seen["headers"]
    assert ["host", f"hello.apps.localhost:{stage.options.port}"] in seen["headers"]
    assert ["content-type", "application/cloudevents+json"] in seen["headers"]
    assert "x-kept" in names
    assert not {"x-hop", "te", "connection"} & set(names)
    assert answer.cookies == ["a=1", "b=2"]
    assert (await stage.ask("hello", headers={"x-status": "418"})).status == 418


async def test_a_function_is_found_by_path_and_strangers_find_nothing(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    local = f"127.0.0.1:{stage.options.port}"
    answer = await stage.ask("", "/fn/apps/hello/echo/x?y=1", host=local)
    assert orjson.loads(answer.body)["path"] == "/echo/x?y=1"
    assert (await stage.ask("", "/fn/apps/hello", host="localhost")).body == b"hello"
    for target, host in (
        ("/fn/apps/nobody", local), ("/fn/other/hello", local), ("/fn/apps", local), ("/fn/apps/hello", "evil.test"),
        ("/", f"nobody.apps.localhost:{stage.options.port}"),
    ):  # fmt: skip
        answer = await stage.ask("", target, host=host)
        assert (answer.status, answer.body) == (404, b"no such function\n")


async def test_a_body_of_ten_megabytes_is_refused(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    assert (await stage.ask("hello", "/size", method="POST", body=b"x" * 9_999_999)).body == b"9999999"
    answer = await stage.ask("hello", "/size", method="POST", body=b"x" * 10_000_000)
    assert answer.status == 413
    assert (await stage.ask("hello")).status == 200


async def test_an_announced_body_of_ten_megabytes_is_refused_before_it_is_sent(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.options.port)
    host = f"hello.apps.localhost:{stage.options.port}"
    writer.write(
        f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_a_full_queue_is_answered_503(tmp_path: Path) -> None:
    async with staged(tmp_path, replace(QUICK, queue=2)) as stage:
        await stage.apply("hello", hard_limit=1, annotations={"max-scale": "1"})
        await stage.settled("hello")
        answers = await asyncio.gather(*(stage.ask("hello", "/sleep?0.5") for _ in range(6)))
        assert Counter(answer.status for answer in answers) == {200: 3, 503: 3}
        assert {answer.headers.get("retry-after") for answer in answers if answer.status == 503} == {"1"}


async def test_a_request_waits_only_so_long(tmp_path: Path) -> None:
    async with staged(tmp_path, replace(QUICK, wait_seconds=0.3)) as stage:
        await stage.apply("hello", hard_limit=1, annotations={"max-scale": "1"})
        await stage.settled("hello")
        first = asyncio.create_task(stage.ask("hello", "/sleep?1"))
        await asyncio.sleep(0.1)
        late = await stage.ask("hello")
        assert (late.status, late.headers["retry-after"]) == (503, "1")
        assert (await first).status == 200


async def test_a_function_can_be_deleted_while_it_serves(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    pid = int((await stage.ask("hello", "/pid")).body)
    running = asyncio.create_task(stage.ask("hello", "/sleep?0.5"))
    await asyncio.sleep(0.1)
    await stage.delete("hello")
    assert stage.server.images() == {stage.image()}
    await until(lambda: not stage.server.replicas(HELLO).running)
    assert (await stage.ask("hello")).status == 404
    assert (await running).status == 200
    await until(lambda: not alive(pid))
    await until(lambda: stage.server.images() == set())


async def test_a_function_that_comes_again_is_another_one(stage: Stage) -> None:
    await stage.apply("hello", env={"WORD": "first"})
    await stage.settled("hello")
    await stage.delete("hello")
    await stage.apply("hello", env={"WORD": "second"})
    assert (await stage.settled("hello"))["status"]["latestReadyRevisionName"] == "hello-00001"
    assert (await stage.ask("hello")).body == b"second"


# ---- the end of the server ----


async def test_a_start_that_is_given_up_at_any_moment_leaves_neither_process_nor_folder(stage: Stage) -> None:
    starter = Starter(
        stage.cluster, stage.images.get, state=stage.folder / "other", options=stage.options, remark=print
    )
    template = revisions.parse(service("hello", stage.image()))
    for attempt in range(60):
        starting = asyncio.create_task(starter.start(Revision(HELLO, "hello-00001", template)))
        await asyncio.sleep(attempt * 0.0001)
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()
        assert list((stage.folder / "other" / "instances").glob("*")) == []
    assert not [one for one in proc.everything() if proc.home_of(one.pid).startswith(str(stage.folder / "other"))]
    assert not starter._ports._taken | starter._users._taken


async def test_a_second_server_of_the_same_state_is_refused(stage: Stage) -> None:
    await stage.apply("hello")
    await stage.settled("hello")
    other = ProcessServer(stage.cluster, stage.images.get, clock=stage.clock, state=stage.state, options=stage.options)
    with pytest.raises(OSError, match="another local mode"):
        await other.run()
    assert (await stage.ask("hello")).status == 200


async def test_a_killed_server_leaves_no_process_to_the_next_one(tmp_path: Path) -> None:
    stage_program = tmp_path / "serve.py"
    stage_program.write_text(KILLED)
    victim = await asyncio.create_subprocess_exec(
        sys.executable, str(stage_program), str(tmp_path),
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert victim.stdout is not None
    pids = orjson.loads(await asyncio.wait_for(victim.stdout.readline(), 20))
    assert all(map(alive, pids))
    victim.send_signal(signal.SIGKILL)
    await victim.wait()
    await until(lambda: not alive(pids[0]))
    async with staged(tmp_path):
        await until(lambda: not any(map(alive, pids)))


KILLED = """
import asyncio, json, pathlib, sys
import structlog
from tests.local.stage import staged

async def main():
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with staged(pathlib.Path(sys.argv[1])) as stage:
        await stage.apply("hello")
        await stage.settled("hello")
        main_pid = json.loads((await stage.ask("hello", "/pid")).body)
        children = json.loads((await stage.ask("hello", "/fork")).body)
        print(json.dumps([main_pid, *children]), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
