"""How many series there may be, and when they go."""

from __future__ import annotations

from knative_lambda.api.meta import Key
from knative_lambda.web.labels import Words
from knative_lambda.web.series import KEPT

from .desk import Desk

TOTAL = "operator_reconcile_total"


def keys(count: int) -> list[Key]:
    return [Key("shop", f"fn-{number}") for number in range(count)]


async def test_functions_beyond_the_limit_are_counted_together() -> None:
    desk = Desk(functions=2)
    for key in keys(5):
        desk.metrics.series.enter(key)
        desk.reconcile(key)
    samples = await desk.samples(TOTAL)
    assert {(labels["function_name"], labels["namespace"]): value for labels, value in samples} == {
        ("fn-0", "shop"): 1,
        ("fn-1", "shop"): 1,
        ("other", "other"): 3,
    }


async def test_a_deleted_function_is_still_shown_for_a_while_and_then_gone() -> None:
    desk = Desk()
    [key] = keys(1)
    desk.metrics.series.enter(key)
    desk.reconcile(key)
    desk.metrics.operated(key, "delete")
    desk.metrics.series.leave(key)
    assert await desk.value("operator_crd_operations_total", operation="delete") == 1
    await desk.clock.advance(KEPT)
    assert "fn-0" not in await desk.text()
    assert len(desk.metrics.series) == 0


async def test_what_is_told_of_a_function_after_its_series_went_is_counted_among_the_rest() -> None:
    desk = Desk()
    [key] = keys(1)
    desk.metrics.series.enter(key)
    desk.metrics.series.leave(key)
    await desk.clock.advance(KEPT)
    await desk.text()
    desk.reconcile(key)
    assert await desk.value(TOTAL, function_name="other") == 1


async def test_a_function_that_comes_back_keeps_its_series() -> None:
    desk = Desk()
    [key] = keys(1)
    desk.metrics.series.enter(key)
    desk.reconcile(key)
    desk.metrics.series.leave(key)
    await desk.clock.advance(KEPT / 2)
    desk.metrics.series.enter(key)
    await desk.clock.advance(KEPT)
    assert await desk.value(TOTAL, function_name="fn-0") == 1


async def test_a_new_function_takes_the_place_of_one_that_is_gone() -> None:
    desk = Desk(functions=1)
    old, new = keys(2)
    desk.metrics.series.enter(old)
    desk.reconcile(old)
    desk.metrics.series.leave(old)
    desk.metrics.series.enter(new)
    desk.reconcile(new)
    assert [labels["function_name"] for labels, _ in await desk.samples(TOTAL)] == ["fn-1"]


async def test_a_series_that_two_functions_share_goes_with_the_second() -> None:
    desk = Desk()
    ours, theirs = Key("ours", "hello"), Key("theirs", "hello")
    for key in (ours, theirs):
        desk.metrics.series.enter(key)
        desk.metrics.operation_took(key, "update", seconds=1)
    count = "operator_crd_operation_duration_seconds_count"
    assert await desk.value(count, function_name="hello") == 2
    desk.metrics.series.leave(ours)
    await desk.clock.advance(KEPT)
    assert await desk.value(count, function_name="hello") == 2
    desk.metrics.series.leave(theirs)
    await desk.clock.advance(KEPT)
    assert await desk.value(count, function_name="hello") is None


async def test_a_function_that_goes_while_its_text_is_written_leaves_nothing_behind() -> None:
    desk = Desk()
    [key] = keys(1)
    series = desk.metrics.series
    series.enter(key)
    desk.reconcile(key)
    touched = series.touched()
    series.leave(key)
    await desk.clock.advance(KEPT)
    series.sweep()
    series.keep({one: "zombie\n" for one, _ in touched})
    assert "zombie" not in await desk.text()


def test_words_are_the_known_ones_and_a_few_more() -> None:
    words = Words(("a",), more=1)
    assert [words.bounded(word) for word in ("a", "b", "c", "b")] == ["a", "b", "other", "b"]


async def test_event_types_and_methods_of_strangers_are_other() -> None:
    desk = Desk()
    desk.metrics.event_processed("evil.type", "/knative-lambda/operator", is_ok=False, seconds=0.1)
    desk.metrics.requested("BREW", "/pot/{id}", status=418, seconds=0.1, size=3)
    assert await desk.value("operator_event_processing_total", event_type="other", result="failure") == 1
    assert await desk.value("operator_api_requests_total", method="other", endpoint="/pot/{id}") == 1
