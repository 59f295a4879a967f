"""The page against the design document's list, and in the forms that scrapers ask for."""

from __future__ import annotations

import gzip
import re

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from knative_lambda.api.meta import Key
from knative_lambda.web.metrics import CATCH_ALL
from knative_lambda.web.page import Form, negotiate
from tests import gen

from .desk import Desk
from .documented import DOCUMENTED, OURS, Documented

ROWS = (*DOCUMENTED, *OURS)
KEY = Key("shop", "hello")


def everything_happens(desk: Desk) -> None:
    """One sample at least of each family that has no sample by itself."""
    fn = gen.lambda_function()
    desk.jobs.put(fn.key, gen.job(fn))
    desk.services.put(fn.key, gen.service(fn))
    desk.metrics.series.enter(KEY)
    desk.reconcile(KEY)
    desk.metrics.operated(KEY, "create")
    desk.metrics.operation_took(KEY, "create", seconds=1)
    desk.metrics.event_processed("lambda.build.started", "/knative-lambda/operator", is_ok=True, seconds=0.01)
    desk.metrics.built(KEY, is_ok=True, seconds=12)
    desk.metrics.service_created(KEY, seconds=3)
    desk.metrics.dead_letter(KEY, "retries_exhausted")
    desk.metrics.dead_letters |= {KEY: 4, CATCH_ALL: 1}
    desk.metrics.requested("GET", "/metrics", status=200, seconds=0.01, size=0)
    desk.deliveries["github", "accepted"] += 1


def samples_of(text: str, row: Documented) -> list[str]:
    suffix = "(_bucket|_sum|_count)" if row.type == "histogram" else ""
    return re.findall(rf"^{row.name}{suffix}[ {{].*$", text, re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_metric_has_the_name_and_type_of_the_document(row: Documented) -> None:
    text = await Desk().text()
    assert f"# TYPE {row.name} {row.type}\n" in text


async def test_the_page_holds_no_metric_that_is_not_listed() -> None:
    text = await Desk().text()
    assert sorted(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)) == sorted(row.name for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_labels_of_every_sample_are_those_of_the_document(row: Documented) -> None:
    desk = Desk()
    everything_happens(desk)
    lines = re.findall(rf"^{row.name}\S*(?: .*)?$", await desk.text(), re.MULTILINE)
    assert lines
    for line in lines:
        labels = set(re.findall(r'[{,](\w+)="', line)) - {"le"}
        assert labels == set(row.labels), line


@pytest.mark.parametrize("row", [row for row in ROWS if row.buckets], ids=lambda row: row.name)
async def test_buckets_are_those_of_the_document(row: Documented) -> None:
    desk = Desk()
    everything_happens(desk)
    bounds = re.findall(rf'^{row.name}_bucket.*le="([^"]+)"', await desk.text(), re.MULTILINE)
    assert row.buckets is not None
    assert [float(bound) for bound in bounds] == [*row.buckets, float("inf")]


async def test_openmetrics_can_be_read_by_its_own_strict_parser() -> None:
    desk = Desk()
    everything_happens(desk)
    body = (await desk.page.render(Form(openmetrics=True))).decode()
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(body)}
    assert families["operator_reconcile"].type == "counter"
    [total] = families["operator_reconcile"].samples
    assert (total.name, total.value) == ("operator_reconcile_total", 1)
    assert families["operator_cpu_usage_seconds"].samples[0].name == "operator_cpu_usage_seconds"
    assert families["operator_api_requests"].samples[0].labels["endpoint"] == "/metrics"


async def test_the_names_of_samples_are_the_same_in_both_forms() -> None:
    desk = Desk()
    everything_happens(desk)

    async def names(form: Form) -> set[str]:
        return set(re.findall(r"^(operator_\w+)", (await desk.page.render(form)).decode(), re.MULTILINE))

    assert await names(Form()) == await names(Form(openmetrics=True))


async def test_a_compressed_page_is_the_page() -> None:
    desk = Desk()
    everything_happens(desk)
    body = gzip.decompress(await desk.page.render(Form(gzip=True))).decode()
    assert 'operator_dlq_depth{function_name="hello",namespace="shop"} 4.0' in body


@pytest.mark.parametrize(
    ("accept", "encoding", "form"),
    [
        ("", "", Form()),
        ("*/*", "identity", Form()),
        ("text/plain;version=0.0.4", "gzip", Form(gzip=True)),
        ("application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5", "", Form(openmetrics=True)),
        ("application/openmetrics-text; version=nonsense", "br, GZIP", Form(openmetrics=True, gzip=True)),
    ],
)
def test_the_form_is_negotiated(accept: str, encoding: str, form: Form) -> None:
    assert negotiate(accept, encoding) == form


def test_each_form_says_what_it_is() -> None:
    assert Form().content_type.startswith("text/plain; version=0.0.4")
    assert Form(openmetrics=True).content_type.startswith("application/openmetrics-text; version=1.0.0")


async def test_two_scrapes_at_once_are_one_rendering_and_a_later_one_is_new() -> None:
    desk = Desk()
    desk.metrics.series.enter(KEY)
    first = await desk.page.render(Form())
    desk.reconcile(KEY)
    assert await desk.page.render(Form()) is first
    await desk.clock.advance(2)
    assert b'operator_reconcile_total{function_name="hello"' in await desk.page.render(Form())


async def test_a_series_that_nothing_touched_stands_on_every_page() -> None:
    desk = Desk()
    everything_happens(desk)
    before = await desk.text()
    after = await desk.text()
    [row] = [row for row in ROWS if row.name == "operator_build_duration_seconds"]
    assert samples_of(before, row)
    assert samples_of(after, row) == samples_of(before, row)


async def test_values_of_labels_are_escaped() -> None:
    desk = Desk()
    desk.metrics.series.enter(KEY)
    desk.metrics.dead_letter(KEY, 'a "b"\\\nc')
    assert await desk.value("operator_dlq_messages_total", reason='a "b"\\\nc') == 1
