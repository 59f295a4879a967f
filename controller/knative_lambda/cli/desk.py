"""Where dead letters lie, and which cluster knows their functions: RabbitMQ and a cluster, or a local mode's files.

Called by `kn-lambda dlq`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knative_lambda.cli import clusters
from knative_lambda.cli.clusters import Site
from knative_lambda.cli.failures import Fault

if TYPE_CHECKING:
    from knative_lambda.events.mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class Desk:
    """What the options of a command say."""

    rabbitmq: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    local: bool = False
    state_dir: Path | None = None

    def file(self) -> Path | None:
        """Local mode's letters, where those are meant; None means RabbitMQ. A folder that is named need not run."""
        from knative_lambda.local import state

        if self.state_dir:
            return state.letters(self.state_dir)
        if self.local:
            found = clusters.choose(local=True).state
        elif self.rabbitmq or self.kubeconfig or self.context:
            return None
        else:
            running = state.running()
            found = running[0] if len(running) == 1 else None
        return state.letters(found) if found else None

    def site(self) -> Site:
        """The cluster to ask. Raises Fault when a local mode is meant that does not run."""
        if self.file() is None:
            return Site(self.kubeconfig, self.context)
        return clusters.choose(local=self.state_dir is None, state_dir=self.state_dir)

    @contextlib.contextmanager
    def mailbox(self) -> Iterator[Mailbox]:
        """The letters. Raises Fault, MailboxError."""
        mailbox = self._opened()
        try:
            yield mailbox
        finally:
            mailbox.close()

    def _opened(self) -> Mailbox:
        from knative_lambda.events.rabbitmq_mailbox import RabbitMQMailbox
        from knative_lambda.events.sqlite_mailbox import SqliteMailbox

        file = self.file()
        if file is not None:
            return SqliteMailbox(file)
        try:
            return RabbitMQMailbox(self.server())
        except ValueError as error:
            raise Fault(str(error)) from error

    def server(self) -> str:
        """RabbitMQ's address. Raises Fault when nothing says where letters lie."""
        if not self.rabbitmq:
            raise Fault(
                "no RabbitMQ is named: set KN_LAMBDA_RABBITMQ=amqp://user:password@host:5672/, or give --rabbitmq;"
                " for those of kn-lambda dev give --local or --state-dir"
            )
        return self.rabbitmq

    def without(self, queue: str) -> str:
        """Why there may be no such queue, and where else to look."""
        file = self.file()
        if file is not None:
            return f"no trigger of such a function was ever here ({file})"
        return f"there is no {queue}; is the virtual host the right one?{self.aside()}"

    def aside(self) -> str:
        """For who asks a RabbitMQ that the environment names and means the local mode that runs."""
        from knative_lambda.local import state

        return "; for the local mode that runs give --local" if self.file() is None and state.running() else ""

    def check(self) -> None:
        """Says at once that nothing says where letters lie, before a cluster is asked."""
        if self.file() is None:
            self.server()
