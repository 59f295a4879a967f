"""What the pushes made: objects in Kubernetes, events in RabbitMQ."""

from __future__ import annotations

from rich.table import Table

from tests.apiserver.stage import Stage, condition
from tests.demo.pushes import FUNCTION
from tests.demo.told import console, say
from tests.demo.world import NAMESPACE, World


def show_objects(stage: Stage) -> None:
    """A row per function."""
    table = Table(title="\nwhat the push made", title_justify="left")
    for column in ("function", "Ready", "phase", "builds", "Triggers", "image"):
        table.add_column(column)
    for fn in stage.list("lambdafunctions"):
        name = fn["metadata"]["name"]
        ready = condition(fn, "Ready").get("status", "?")
        counts = str(len(stage.jobs_of(name))), str(len(stage.triggers_of(name)))
        table.add_row(name, ready, fn["status"]["phase"], *counts, _digest(fn["status"]["image"]))
    console.print(table)


def show_events(world: World) -> None:
    """A row per event of one function, once the last of them is there."""
    expected = {"lambda.function.created", "lambda.build.completed", "lambda.service.created", "lambda.status.updated"}
    world.stage.wait(
        lambda: expected <= set(world.tap.ids_by_type(FUNCTION, NAMESPACE)), what="the events of the first function"
    )
    table = Table(title=f"\nevents of {FUNCTION}, as read back from RabbitMQ", title_justify="left")
    for column, width in (("time", 12), ("type", 23), ("id", 8), ("what", None)):
        table.add_column(column, min_width=width, no_wrap=True)
    for event in world.tap.of(FUNCTION, NAMESPACE):
        data = event["data"]
        said = data.get("phase") or _digest(data.get("image_uri", "")) or data.get("job_name") or data.get("url", "")
        table.add_row(event["time"][11:23], event["type"], event["id"][:8], str(said or data.get("service_name", "")))
    console.print(table)
    say(f"{len(world.tap.read())} events in all")


def _digest(image: str) -> str:
    """The end of an image's name that tells builds apart."""
    return "@" + image.partition("@")[2][:19] if image else ""
