"""Everything that the demo runs: real servers on loopback, the controller as a user starts it, and stand-ins."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.apiserver.operator import Operator
from tests.apiserver.stage import Stage
from tests.apiserver.tap import EventTap
from tests.demo.told import step
from tests.testbed import assets, processes
from tests.testbed.gitserver import GitServer
from tests.testbed.kubernetes import KubernetesBed
from tests.testbed.rabbitmq import RabbitMQBed
from tests.testbed.standins import Knative, Kubelet, PodOutcome, ServiceOutcome

NAMESPACE = "shop"
BUILD_SECONDS, START_SECONDS = 1.0, 0.5
"""What the stand-ins take for a build and for bringing a revision up; the rest of the timeline is ours."""


@dataclass(frozen=True)
class World:
    """Everything that runs."""

    stage: Stage
    git: GitServer
    tap: EventTap
    folder: Path
    rabbitmq: str
    """amqp URL, with the password of this run."""
    webhooks: str
    """Where the controller takes webhooks, without a path."""


def start(stack: ExitStack) -> World:
    """Starts it all; `stack` ends it. Raises Unavailable where this machine cannot run it."""
    folder = Path(tempfile.mkdtemp(prefix="knative-lambda-demo-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    with step("etcd, kube-apiserver, controller manager: found, or built (once, about seven minutes)"):
        assets.servers()
    with step("starting them, with the CRDs of Knative, of RabbitMQ and our own"):
        bed = stack.enter_context(KubernetesBed.start(crds=[*assets.crd_files(), *assets.project_crds()]))
        bed.create_namespace(NAMESPACE)
    with step("starting RabbitMQ"):
        rabbit = stack.enter_context(RabbitMQBed.shared())
        url = rabbit.create_vhost("demo")
        stack.callback(rabbit.delete_vhost, "demo")
    with step("starting the git server, and stand-ins for kubelet and Knative"):
        git = stack.enter_context(GitServer.start())
        stack.enter_context(Kubelet(kubeconfig=bed.kubeconfig, default=PodOutcome.succeed(delay=BUILD_SECONDS)))
        stack.enter_context(Knative(kubeconfig=bed.kubeconfig, default=ServiceOutcome.ready(delay=START_SECONDS)))
    tap = EventTap(url, queue="demo").open()
    stack.callback(tap.close)
    webhooks = _start_controller(stack, bed.kubeconfig, folder / "operator", url)
    return World(Stage(bed.api, NAMESPACE), git, tap, folder, url, f"http://127.0.0.1:{webhooks}")


def _start_controller(stack: ExitStack, kubeconfig: Path, folder: Path, rabbitmq: str) -> int:
    """With webhooks and dead letters; returns the port for webhooks, which answers."""
    webhooks, operations = processes.free_port(), processes.free_port()
    arguments = ("--namespace", NAMESPACE, "--lease-namespace", NAMESPACE, "--rabbitmq", rabbitmq)
    environment = {
        "KN_LAMBDA_WEBHOOK_PORT": str(webhooks),
        "KN_LAMBDA_HTTP_PORT": str(operations),
        "KN_LAMBDA_DEAD_LETTERS": "amqp",
        "KN_LAMBDA_DEAD_LETTER_URL": f"http://127.0.0.1:{operations}",
    }
    with step(f"kn-lambda controller --namespace {NAMESPACE}, with webhooks and dead letters"):
        operator = Operator(kubeconfig=kubeconfig, folder=folder, arguments=arguments, environment=environment)
        stack.callback(operator.kill)
        operator.start()
        stack.callback(lambda: operator.terminate() if operator.running else None)
        processes.wait_until(lambda: processes.port_open(webhooks), what="the port for webhooks", timeout=20)
    return webhooks
