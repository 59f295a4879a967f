"""KubeCluster against a server that misbehaves: requests as they leave, answers of every sort, broken watches."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import orjson
import pytest

from knative_lambda.api.kinds import CONFIG_MAP, JOB, LAMBDA_FUNCTION, LEASE, NAMESPACE
from knative_lambda.api.meta import Key, Kind
from knative_lambda.cluster.base import (
    AlreadyExists,
    CircuitOpen,
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KindNotInstalled,
    NotFound,
    Selection,
    Timeout,
    TooManyRequests,
    Unavailable,
    WatchEvent,
    WriteFenced,
)
from knative_lambda.cluster.kube import KubeCluster
from knative_lambda.cluster.transport import Endpoint, StaticCredentials, Tuning
from knative_lambda.kit.clock import ManualClock, SystemClock
from tests.unit.cluster import fakes

pytestmark = pytest.mark.unit

KEY = Key("ns", "a")
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns", "managedFields": [{}]}}


async def watched(cluster: KubeCluster) -> list[WatchEvent]:
    async with contextlib.aclosing(cluster.watch(JOB, resource_version="7")) as events:  # type: ignore[type-var]
        return [event async for event in events]


async def until_broken(cluster: KubeCluster) -> tuple[list[WatchEvent], ClusterError | None]:
    """What a watch said before it failed, and how it failed."""
    seen = []
    try:
        async for event in cluster.watch(JOB, resource_version="7"):
            seen.append(event)  # noqa: PERF401 - what came before the error counts
    except ClusterError as error:
        return seen, error
    return seen, None


class TestRequests:
    async def test_every_verb_asks_as_the_api_server_wants_it(self) -> None:
        async with fakes.talking(fakes.json(OBJECT)) as (cluster, server):
            await cluster.get(CONFIG_MAP, KEY)
            await cluster.create(JOB, {"metadata": {"namespace": "ns", "generateName": "x-"}})
            await cluster.apply(LAMBDA_FUNCTION, {"metadata": {"namespace": "ns", "name": "f"}}, force=False)
            await cluster.patch(LAMBDA_FUNCTION, KEY, {"status": None}, subresource="status")
            await cluster.replace(LEASE, {"metadata": {"namespace": "ns", "name": "l", "resourceVersion": "3"}})
            await cluster.delete(NAMESPACE, Key("", "ns"), uid="u", propagation="Foreground")
        asked = [(one.method, one.path, one.headers.get("Content-Type"), one.body) for one in server.requests]
        functions = "/apis/lambda.knative.io/v1alpha1/namespaces/ns/lambdafunctions"
        manager = "fieldManager=knative-lambda"
        strict = "fieldValidation=Strict"
        assert asked == [
            ("GET", "/api/v1/namespaces/ns/configmaps/a", None, b""),
            (
                "POST", f"/apis/batch/v1/namespaces/ns/jobs?{manager}&{strict}", "application/json",
                b'{"apiVersion":"batch/v1","kind":"Job","metadata":{"namespace":"ns","generateName":"x-"}}',
            ),
            (
                "PATCH", f"{functions}/f?{manager}&force=false&{strict}", "application/apply-patch+yaml",
                b'{"apiVersion":"lambda.knative.io/v1alpha1","kind":"LambdaFunction",'
                b'"metadata":{"namespace":"ns","name":"f"}}',
            ),
            ("PATCH", f"{functions}/a/status?{manager}", "application/merge-patch+json", b'{"status":null}'),
            (
                "PUT", f"/apis/coordination.k8s.io/v1/namespaces/ns/leases/l?{manager}", "application/json",
                b'{"apiVersion":"coordination.k8s.io/v1","kind":"Lease",'
                b'"metadata":{"namespace":"ns","name":"l","resourceVersion":"3"}}',
            ),
            (
                "DELETE", "/api/v1/namespaces/ns", "application/json",
                b'{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Foreground","preconditions":{"uid":"u"}}',
            ),
        ]  # fmt: skip
        assert {one.headers["Authorization"] for one in server.requests} == {"Bearer test"}
        assert {one.headers["User-Agent"] for one in server.requests} == {"knative-lambda/0.1.0"}
        assert {one.headers["Accept-Encoding"] for one in server.requests} == {"identity"}

    async def test_lists_and_watches_carry_their_selection(self) -> None:
        async with fakes.talking(fakes.json({"items": [], "metadata": {}})) as (cluster, server):
            selection = Selection("ns", labels="a in (b,c)", fields="metadata.name=x")
            await cluster.list(JOB, selection, limit=7, continue_token="to/ken=")
            server.script[:] = [fakes.stream()]
            stream = cluster.watch(JOB, Selection(), resource_version="12", seconds=30)
            assert [event async for event in stream] == []
        assert server.requests[0].path == (
            "/apis/batch/v1/namespaces/ns/jobs?limit=7&continue=to%2Fken%3D"
            "&labelSelector=a+in+%28b%2Cc%29&fieldSelector=metadata.name%3Dx"
        )
        assert server.requests[1].path == (
            "/apis/batch/v1/jobs?watch=1&allowWatchBookmarks=true&resourceVersion=12&timeoutSeconds=30"
        )

    @pytest.mark.parametrize("name", ["../secrets/x", "a/b", "a?b", "a%2Fb", "Ä"])
    async def test_a_name_never_becomes_another_path(self, name: str) -> None:
        async with fakes.talking(fakes.json(OBJECT)) as (cluster, server):
            await cluster.get(CONFIG_MAP, Key("ns", name))
        (request,) = server.requests
        assert request.path.startswith("/api/v1/namespaces/ns/configmaps/")
        assert request.path.count("/") == 6
        assert "?" not in request.path

    @pytest.mark.parametrize("key", [Key("ns", ".."), Key("..", "a"), Key("", "a")])
    async def test_a_key_that_is_no_place_is_refused_unasked(self, key: Key) -> None:
        async with fakes.talking(fakes.json(OBJECT)) as (cluster, server):
            with pytest.raises(Invalid):
                await cluster.get(CONFIG_MAP, key)
        assert server.requests == []

    async def test_requests_are_counted_by_verb_and_kind(self) -> None:
        async with fakes.talking(fakes.json(OBJECT)) as (cluster, _):
            await cluster.get(CONFIG_MAP, KEY)
            await cluster.patch(JOB, KEY, {})
            await cluster.patch(JOB, KEY, {}, subresource="status")
            counts = cluster.counts
            assert counts.table() == {("get", CONFIG_MAP): 1, ("patch", JOB): 1, ("patch_status", JOB): 1}
            assert (counts.total, counts.writes) == (3, 2)
            assert (counts.of("patch"), counts.of(kind=JOB), counts.of("get", JOB)) == (1, 2, 0)
            counts.reset()
            assert counts.total == 0

    async def test_managed_fields_are_dropped_and_list_items_say_their_kind(self) -> None:
        async with fakes.talking(fakes.json({**OBJECT, "items": [{"metadata": {"managedFields": []}}]})) as (
            cluster,
            _,
        ):
            assert "managedFields" not in (await cluster.get(CONFIG_MAP, KEY))["metadata"]
            page = await cluster.list(CONFIG_MAP)
        assert page.items == [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}]

    async def test_a_fenced_writer_reads_and_renews_but_writes_nothing(self) -> None:
        def fence(kind: Kind) -> None:
            raise WriteFenced(f"not the leader: {kind}")

        async with fakes.serving(fakes.json(OBJECT)) as server:
            endpoint = Endpoint(server.url, StaticCredentials())
            cluster = KubeCluster(endpoint, clock=SystemClock(), before_write=fence)
            with pytest.raises(WriteFenced, match="Job"):
                await cluster.patch(JOB, KEY, {})
            await cluster.get(JOB, KEY)
            await cluster.patch(LEASE, KEY, {})
            assert [one.method for one in server.requests] == ["GET", "PATCH"]
            assert "Authorization" not in server.requests[0].headers
            await cluster.close()

    async def test_discovery_is_asked_once_in_a_while(self) -> None:
        clock = ManualClock()
        known = fakes.json({"kind": "APIResourceList", "resources": [{"name": "jobs"}, {"name": "jobs/status"}]})
        async with fakes.talking(known, clock=clock) as (cluster, server):
            assert [await cluster.served(JOB) for _ in range(3)] == [True] * 3
            assert not await cluster.served(Kind("batch", "v1", "ghosts", "Ghost"))
            assert [one.path for one in server.requests] == ["/apis/batch/v1"]
            server.script[:] = [fakes.text("404 page not found", status=404)]
            await clock.advance(11)
            assert not await cluster.served(JOB)
            assert len(server.requests) == 2

    async def test_a_server_that_cannot_be_asked_is_not_a_kind_that_is_absent(self) -> None:
        async with fakes.talking(fakes.failure(503, "ServiceUnavailable")) as (cluster, _):
            with pytest.raises(Unavailable):
                await cluster.served(JOB)


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (fakes.failure(404, "NotFound", name="a"), NotFound),
            (fakes.failure(404, "NotFound"), KindNotInstalled),
            (fakes.text("404 page not found", status=404), KindNotInstalled),
            (fakes.failure(409, "AlreadyExists"), AlreadyExists),
            (fakes.failure(409, "Conflict"), Conflict),
            (fakes.failure(422, "Invalid"), Invalid),
            (fakes.failure(422, "Invalid", causes=[{"field": "metadata.uid"}]), Conflict),
            (fakes.failure(400, "BadRequest"), Invalid),
            (fakes.failure(405, "MethodNotAllowed"), Invalid),
            (fakes.failure(500, "", "failed to create typed patch object (a/b): .x: not declared"), Invalid),
            (fakes.failure(401, "Unauthorized"), Forbidden),
            (fakes.failure(403, "Forbidden"), Forbidden),
            (fakes.failure(410, "Expired"), Gone),
            (fakes.failure(410, "Gone"), Gone),
            (fakes.failure(429, "TooManyRequests"), TooManyRequests),
            (fakes.failure(500, "InternalError"), Unavailable),
            (fakes.text("bad gateway", status=502), Unavailable),
            (fakes.failure(504, "Timeout"), Timeout),
            (fakes.text("[1]"), Unavailable),
            (fakes.text("<html>"), Unavailable),
            (fakes.text(""), Unavailable),
            (fakes.text("moved", status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"}), ClusterError),
        ],
    )
    async def test_each_answer_has_its_error(self, answer: fakes.Answer, error: type[ClusterError]) -> None:
        async with fakes.talking(answer) as (cluster, server):
            with pytest.raises(ClusterError) as caught:
                await cluster.patch(JOB, KEY, {})
        assert type(caught.value) is error or (error is Forbidden and isinstance(caught.value, Forbidden))
        assert caught.value.message.startswith("patch Job.batch ns/a: ")
        assert len(server.requests) == 1

    async def test_an_error_repeats_no_secret_and_no_novel(self) -> None:
        leak = fakes.failure(422, "Invalid", "password=hunter2 " + "x" * 5000)
        async with fakes.talking(leak) as (cluster, _):
            with pytest.raises(Invalid) as caught:
                await cluster.patch(JOB, KEY, {})
        assert "hunter2" not in caught.value.message
        assert len(caught.value.message) < 2200

    async def test_a_server_that_is_away_is_unavailable(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = Endpoint(f"http://127.0.0.1:{free.getsockname()[1]}", StaticCredentials())
            cluster = KubeCluster(endpoint, clock=SystemClock())
            with pytest.raises(Unavailable) as caught:
                await cluster.get(JOB, KEY)
            await cluster.close()
        assert type(caught.value) is Unavailable

    async def test_a_cut_connection_is_unavailable_and_a_write_is_not_repeated(self) -> None:
        async with fakes.talking(fakes.cut()) as (cluster, server):
            with pytest.raises(Unavailable):
                await cluster.patch(JOB, KEY, {})
        assert len(server.requests) == 1

    async def test_a_silent_server_times_out(self) -> None:
        async with fakes.talking(fakes.hanging()) as (cluster, server):
            began = time.monotonic()
            with pytest.raises(Timeout):
                await cluster.patch(JOB, KEY, {})
            assert 0.4 < time.monotonic() - began < 2
        assert len(server.requests) == 1

    async def test_a_body_that_drips_times_out(self) -> None:
        async with fakes.talking(fakes.stream(*[b" "] * 50, pause=0.1)) as (cluster, _):
            with pytest.raises(Timeout):
                await cluster.get(JOB, KEY)

    async def test_a_body_without_end_is_refused(self) -> None:
        async with fakes.talking(fakes.stream(*[b"x" * 1000] * 50), max_body=10_000) as (cluster, _):
            with pytest.raises(Unavailable, match="more than 10000 bytes"):
                await cluster.get(JOB, KEY)

    async def test_a_closed_cluster_refuses(self) -> None:
        async with fakes.talking(fakes.json(OBJECT)) as (cluster, _):
            await cluster.get(JOB, KEY)
            await cluster.close()
            with pytest.raises(Unavailable, match="closed"):
                await cluster.get(JOB, KEY)


class TestPatience:
    async def test_a_refused_write_is_sent_again_when_the_server_said(self) -> None:
        busy = fakes.failure(429, "TooManyRequests", after="0.05")
        async with fakes.talking(busy, busy, fakes.json(OBJECT)) as (cluster, server):
            began = time.monotonic()
            await cluster.patch(JOB, KEY, {})
            assert time.monotonic() - began >= 0.1
        assert len(server.requests) == 3

    async def test_patience_ends_with_the_third_refusal(self) -> None:
        async with fakes.talking(fakes.failure(429, "TooManyRequests", after="0.01")) as (cluster, server):
            with pytest.raises(TooManyRequests) as caught:
                await cluster.patch(JOB, KEY, {})
        assert caught.value.retry_after == 0.01
        assert len(server.requests) == 3

    async def test_patience_ends_with_the_time_of_the_call(self) -> None:
        async with fakes.talking(fakes.failure(429, "TooManyRequests", after="30")) as (cluster, server):
            began = time.monotonic()
            with pytest.raises(TooManyRequests) as caught:
                await cluster.patch(JOB, KEY, {})
            assert time.monotonic() - began < 0.5
        assert caught.value.retry_after == 30
        assert len(server.requests) == 1

    async def test_what_the_status_says_counts_without_a_header(self) -> None:
        async with fakes.talking(fakes.failure(429, retryAfterSeconds=40)) as (cluster, _):
            with pytest.raises(TooManyRequests) as caught:
                await cluster.get(JOB, KEY)
        assert caught.value.retry_after == 40

    async def test_an_unavailable_server_is_asked_again_only_for_reads(self) -> None:
        away = fakes.failure(503, "ServiceUnavailable", after="0.01")
        async with fakes.talking(away, fakes.json(OBJECT)) as (cluster, server):
            await cluster.get(JOB, KEY)
            assert len(server.requests) == 2
            server.script[:] = [away]
            with pytest.raises(Unavailable) as caught:
                await cluster.patch(JOB, KEY, {})
        assert caught.value.retry_after == 0.01
        assert len(server.requests) == 3

    async def test_rejected_credentials_are_renewed_once(self) -> None:
        class Rotating:
            def __init__(self) -> None:
                self.value, self.renewals = "Bearer old", 0

            def header(self) -> str:
                return self.value

            async def renew(self, rejected: str, /) -> bool:
                assert rejected == self.value
                self.value, self.renewals = "Bearer new", self.renewals + 1
                return self.renewals == 1

        credentials = Rotating()
        unauthorized = fakes.failure(401, "Unauthorized")
        async with fakes.talking(unauthorized, fakes.json(OBJECT), credentials=credentials) as (cluster, server):
            await cluster.patch(JOB, KEY, {})
            assert [one.headers["Authorization"] for one in server.requests] == ["Bearer old", "Bearer new"]
            server.script[:] = [unauthorized]
            with pytest.raises(Forbidden):
                await cluster.patch(JOB, KEY, {})
        assert credentials.renewals == 2


class TestLimits:
    async def test_five_failures_open_the_circuit_and_one_answer_closes_it(self) -> None:
        clock = ManualClock()
        async with fakes.talking(fakes.failure(500), clock=clock) as (cluster, server):
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await cluster.patch(JOB, KEY, {})
            with pytest.raises(CircuitOpen) as caught:
                await cluster.get(JOB, KEY)
            with pytest.raises(CircuitOpen):
                await watched(cluster)
            assert caught.value.retry_after == 60
            assert len(server.requests) == 5
            await clock.advance(60)
            with pytest.raises(Unavailable):
                await cluster.patch(JOB, KEY, {})
            with pytest.raises(CircuitOpen):
                await cluster.get(JOB, KEY)
            await clock.advance(60)
            server.script[:] = [fakes.failure(404, "NotFound", name="a")]
            for _ in range(3):
                with pytest.raises(NotFound):
                    await cluster.get(JOB, KEY)
        assert len(server.requests) == 9

    async def test_a_half_open_circuit_lets_one_probe_through(self) -> None:
        clock = ManualClock()
        async with fakes.talking(fakes.failure(500), clock=clock) as (cluster, server):
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await cluster.patch(JOB, KEY, {})
            await clock.advance(60)
            server.script[:] = [fakes.stream(orjson.dumps(OBJECT), pause=0.2)]
            outcomes = await asyncio.gather(*(cluster.get(JOB, KEY) for _ in range(4)), return_exceptions=True)
            assert [type(one) for one in outcomes] == [dict, CircuitOpen, CircuitOpen, CircuitOpen]
            await cluster.get(JOB, KEY)

    async def test_a_cancelled_probe_leaves_the_place_to_another(self) -> None:
        clock = ManualClock()
        async with fakes.talking(fakes.failure(500), clock=clock) as (cluster, server):
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await cluster.patch(JOB, KEY, {})
            await clock.advance(60)
            server.script[:] = [fakes.hanging(), fakes.json(OBJECT)]
            probe = asyncio.create_task(cluster.get(JOB, KEY))
            await asyncio.sleep(0.1)
            probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probe
            assert await cluster.get(JOB, KEY)

    async def test_leases_pass_an_open_circuit_and_are_no_evidence(self) -> None:
        async with fakes.talking(fakes.failure(500)) as (cluster, server):
            for _ in range(7):
                with pytest.raises(Unavailable):
                    await cluster.patch(LEASE, KEY, {})
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await cluster.patch(JOB, KEY, {})
            with pytest.raises(CircuitOpen):
                await cluster.patch(JOB, KEY, {})
            server.script[:] = [fakes.json(OBJECT)]
            await cluster.get(LEASE, KEY)
            with pytest.raises(CircuitOpen):
                await cluster.patch(JOB, KEY, {})

    async def test_refusals_of_the_object_never_open_the_circuit(self) -> None:
        async with fakes.talking(fakes.failure(422, "Invalid")) as (cluster, server):
            for _ in range(12):
                with pytest.raises(Invalid):
                    await cluster.patch(JOB, KEY, {})
        assert len(server.requests) == 12

    async def test_requests_keep_to_the_rate_and_leases_pass_them(self) -> None:
        clock = ManualClock()
        async with fakes.talking(fakes.json(OBJECT), clock=clock, qps=10, burst=2) as (cluster, server):
            waiting = [asyncio.create_task(cluster.get(JOB, Key("ns", f"j{number}"))) for number in range(5)]
            await asyncio.sleep(0.1)
            assert len(server.requests) == 2
            await cluster.get(LEASE, KEY)
            assert len(server.requests) == 3
            await clock.advance(0.1)
            await asyncio.sleep(0.1)
            assert len(server.requests) == 4
            await clock.advance(0.2)
            await asyncio.gather(*waiting)

    async def test_leases_pass_requests_that_hold_every_connection(self) -> None:
        async with fakes.talking(fakes.hanging(0.4), connections=2) as (cluster, server):
            stuck = [asyncio.create_task(cluster.get(JOB, KEY)) for _ in range(4)]
            await asyncio.sleep(0.1)
            assert len(server.requests) == 2
            server.script[:] = [fakes.json(OBJECT)]
            await cluster.get(LEASE, KEY)
            assert server.requests[2].path.endswith("/leases/a")
            await asyncio.gather(*stuck)


class TestWatch:
    ADDED = b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"8","managedFields":[]}}}\n'

    async def test_lines_are_events_however_they_are_cut(self) -> None:
        body = self.ADDED * 3
        for size in (1, 7, len(self.ADDED), len(body)):
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            async with fakes.talking(fakes.stream(*chunks), watch_idle=2.0) as (cluster, _):
                events = await watched(cluster)
            assert [event.object["metadata"] for event in events] == [{"name": "a", "resourceVersion": "8"}] * 3

    async def test_a_long_line_is_an_event_and_a_longer_one_an_error(self) -> None:
        line = orjson.dumps({"type": "ADDED", "object": {"data": "x" * 3_000_000}}) + b"\n"
        chunks = [line[at : at + 65536] for at in range(0, len(line), 65536)]
        async with fakes.talking(fakes.stream(*chunks)) as (cluster, _):
            (event,) = await watched(cluster)
            assert len(event.object["data"]) == 3_000_000
        async with fakes.talking(fakes.stream(*chunks), max_line=2_000_000) as (cluster, _):
            with pytest.raises(Unavailable, match="more than 2000000 bytes"):
                await watched(cluster)

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            (b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"old"}}\n', Gone),
            (b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"boom"}}\n', Unavailable),
            (b'{"type":"ERROR","object":{"kind":"Status","code":"x"}}\n', Unavailable),
            (b'{"type":"NEWS","object":{}}\n', Unavailable),
            (b'{"type":"ADDED"}\n', Unavailable),
            (b"garbage\n", Unavailable),
            (b'{"type":"ADDED","obj', Unavailable),
        ],
    )
    async def test_what_is_no_event_is_an_error(self, body: bytes, error: type[ClusterError]) -> None:
        async with fakes.talking(fakes.stream(self.ADDED, body)) as (cluster, _):
            seen, failure = await until_broken(cluster)
        assert len(seen) == 1
        assert type(failure) is error

    async def test_a_cut_watch_is_unavailable(self) -> None:
        async with fakes.talking(fakes.stream(self.ADDED, then="cut", pause=0.05)) as (cluster, _):
            with pytest.raises(Unavailable):
                await watched(cluster)

    async def test_a_silent_watch_times_out(self) -> None:
        async with fakes.talking(fakes.stream(self.ADDED, then="hang")) as (cluster, _):
            with pytest.raises(Timeout):
                await watched(cluster)

    async def test_a_watch_that_is_never_answered_times_out(self) -> None:
        async with fakes.talking(fakes.hanging()) as (cluster, _):
            with pytest.raises(Timeout):
                await watched(cluster)

    async def test_a_refused_watch_says_why(self) -> None:
        for answer, error in ((fakes.failure(410, "Expired"), Gone), (fakes.text("no", status=404), KindNotInstalled)):
            async with fakes.talking(answer) as (cluster, _):
                with pytest.raises(error):
                    await watched(cluster)

    async def test_running_watches_take_no_place_of_requests(self) -> None:
        async with fakes.talking(fakes.stream(self.ADDED, then="hang"), connections=1, watch_idle=5) as (
            cluster,
            server,
        ):
            streams = [cluster.watch(JOB, resource_version="7") for _ in range(3)]
            for stream in streams:
                await anext(stream)
            server.script[:] = [fakes.json(OBJECT)]
            assert await cluster.get(JOB, KEY)
            await cluster.close()
            for stream in streams:
                assert [event async for event in stream] == []


class TestLogs:
    async def test_what_a_container_printed_comes_as_it_is_and_may_end_inside_a_line(self) -> None:
        async with fakes.talking(fakes.stream(b"one\ntw", b"o\nthr")) as (cluster, server):
            chunks = [chunk async for chunk in cluster.log(KEY, container="function", tail=3)]
        assert b"".join(chunks) == b"one\ntwo\nthr"
        assert server.requests[0].path == "/api/v1/namespaces/ns/pods/a/log?container=function&tailLines=3"

    async def test_who_follows_waits_longer_than_any_watch(self) -> None:
        async with fakes.talking(fakes.stream(b"one\n", b"two\n", pause=0.4), watch_idle=0.1) as (cluster, server):
            chunks = [chunk async for chunk in cluster.log(KEY, container="function", follow=True)]
        assert b"".join(chunks) == b"one\ntwo\n"
        assert server.requests[0].path == "/api/v1/namespaces/ns/pods/a/log?container=function&follow=true"

    async def test_a_container_that_has_not_started_is_invalid_in_the_servers_words(self) -> None:
        waiting = fakes.failure(400, "BadRequest", 'container "function" in pod "a" is waiting to start')
        async with fakes.talking(waiting) as (cluster, _):
            with pytest.raises(Invalid, match="is waiting to start"):
                _ = [chunk async for chunk in cluster.log(KEY, container="function")]

    async def test_a_log_that_breaks_off_says_so(self) -> None:
        async with fakes.talking(fakes.stream(b"one\n", then="cut")) as (cluster, _):
            with pytest.raises(Unavailable):
                _ = [chunk async for chunk in cluster.log(KEY, container="function", follow=True)]


def test_the_defaults_are_those_of_the_design() -> None:
    tuning = Tuning()
    assert (tuning.qps, tuning.timeout, tuning.breaker_failures, tuning.breaker_seconds) == (400, 10, 5, 60)
