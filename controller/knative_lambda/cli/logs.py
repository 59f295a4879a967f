"""`kn-lambda logs`: what a function printed, or what its build did; from pods, or from local mode's files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from knative_lambda.cli import clusters, completion
from knative_lambda.cli.output import Form, Output, console, legible, printable, write_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from knative_lambda.api.meta import Key
    from knative_lambda.cli.loglines import Line
    from knative_lambda.cluster.base import Object
    from knative_lambda.cluster.kube import KubeCluster


def logs(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Function: NAME or NAMESPACE/NAME.", autocompletion=completion.functions),
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=1_000_000, help="So many last lines (of each pod).")] = 100,
    build: Annotated[bool, typer.Option("--build", help="Of the newest build, not of the function.")] = False,
    namespace: clusters.Namespace = None,
    kubeconfig: clusters.Kubeconfig = None,
    context: clusters.Context = None,
    local: clusters.Local = False,
    state_dir: clusters.StateDir = None,
    output: Output = Form.TEXT,
) -> None:
    """Show what a function printed. Lines go to stdout, the names of pods or instances to stderr.

    In a cluster, the logs of pods that are gone are gone with them; with -f, pods to come are shown as well. Local
    mode keeps the logs of former instances, too. With -o json each line is a document.

    \b
    kn-lambda logs hello -f
    kn-lambda logs shop/hello --tail 1000 2>/dev/null | grep ERROR
    kn-lambda logs hello --build                 why the build failed
    kn-lambda logs hello --local -f              beside kn-lambda dev

    Exit codes: 0 shown, 2 there is no such function, or the cluster cannot be asked, 130 interrupted.
    """
    from knative_lambda.cli import seen

    site = clusters.choose(kubeconfig, context, local=local, state_dir=state_dir)
    key = seen.key_of(name, "" if "/" in name else site.namespace(namespace))
    asked = Asked(key, follow=follow, tail=tail, build=build)
    site.ask(lambda cluster: _show(cluster, asked, state=site.state, output=output))


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lines."""

    key: Key
    follow: bool
    tail: int
    build: bool


async def _show(cluster: KubeCluster, asked: Asked, *, state: Path | None, output: Form) -> None:
    from knative_lambda.cli import seen

    fn = await seen.find(cluster, asked.key)
    lines = _of_files(state, asked) if state else _of_pods(cluster, asked)
    screen = Screen(output)
    async with contextlib.aclosing(lines):
        async for line in lines:
            screen.show(line)
    if not screen.origin:
        _say_nothing(fn, asked, local=state is not None)


async def _of_pods(cluster: KubeCluster, asked: Asked) -> AsyncGenerator[Line, None]:
    from knative_lambda.cli import podlogs
    from knative_lambda.kit.clock import SystemClock

    selection = await podlogs.building(cluster, asked.key) if asked.build else podlogs.serving(asked.key)
    if asked.follow:
        lines = podlogs.following(cluster, selection, tail=asked.tail, clock=SystemClock())
    else:
        lines = podlogs.existing(cluster, selection, tail=asked.tail, newest_only=asked.build)
    async with contextlib.aclosing(lines):
        async for line in lines:
            yield line


async def _of_files(state: Path, asked: Asked) -> AsyncGenerator[Line, None]:
    from knative_lambda.cli import logfiles
    from knative_lambda.kit.clock import SystemClock

    of = logfiles.of_builds if asked.build else logfiles.of_function
    files = of(state, asked.key)[-1:] if asked.build else of(state, asked.key)
    if not asked.follow:
        for line in logfiles.existing(files, tail=asked.tail):
            yield line
        return
    following = logfiles.following(files, lambda: of(state, asked.key), tail=asked.tail, clock=SystemClock())
    async with contextlib.aclosing(following):
        async for line in following:
            yield line


class Screen:
    """Lines to stdout, as they are for a pipe and without control characters for a terminal; names to stderr."""

    def __init__(self, output: Form) -> None:
        self.origin = ""
        self._json = output is Form.JSON
        self._out, self._err = console(), console(stderr=True)

    def show(self, line: Line) -> None:
        if self._json:
            told = {"problem": line.text} if line.is_problem else {"line": line.text}
            write_line({"origin": line.origin, **told})
            self.origin = line.origin
            return
        if line.origin != self.origin:
            self.origin = line.origin
            self._err.print(f"==> {printable(line.origin)}", style="bold")
        if line.is_problem:
            self._err.print(printable(line.text), style="yellow")
            return
        text = legible(line.text) if self._out.is_terminal else line.text
        self._out.file.write(text + "\n")
        self._out.file.flush()


def _say_nothing(fn: Object, asked: Asked, *, local: bool) -> None:
    """Why there is no line; of a failed build, its end, which the function's status keeps."""
    from knative_lambda.cli import seen

    kept = ((fn.get("status") or {}).get("buildStatus") or {}).get("error")
    if asked.build and kept:
        console(stderr=True).print("the build's pod is gone; the end of its log is in the function's status:")
        console().print(legible(str(kept).rstrip()))
        return
    why = seen.readiness(fn)
    state = f"it is not ready: {why}" if why else "it is scaled to zero, or printed nothing"
    what = "no build has a log" if asked.build else f"no {'instance' if local else 'pod'} has a log; {state}"
    console(stderr=True).print(printable(f"{asked.key}: {what}"))
