"""Dead letters inside this process: local mode, and the twin that tests pass for RabbitMQ."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from knative_lambda.api.meta import Key
from knative_lambda.events.dead_letters import READY, Letter, QueueState
from knative_lambda.resources import names
from knative_lambda.resources.dead_letter import MAX_LENGTH


class MemoryLetters:
    """Every port. A queue per function that was asked for, and the catch-all for everything else."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[Letter]] = {names.DEAD_LETTER_QUEUE: deque(maxlen=MAX_LENGTH)}
        self._bound: dict[str, str] = {}
        self._away = False
        self._answers: dict[Key, QueueState] = {}

    @property
    def connected(self) -> bool:
        return not self._away

    async def park(self, letter: Letter) -> bool:
        """As the port says."""
        if self._away:
            return False
        self.queues[self._bound.get(letter.routing_key, names.DEAD_LETTER_QUEUE)].append(letter)
        return True

    async def ensure(self, function: Key) -> QueueState:
        """As the port says."""
        answer = self._answers.get(function, READY)
        if answer.is_ready:
            queue = names.dead_letter_queue(function)
            self.queues.setdefault(queue, deque(maxlen=MAX_LENGTH))
            self._bound[names.dead_letter_key(function)] = queue
        return answer

    async def depths(self, queues: Sequence[str]) -> Mapping[str, int] | None:
        """As the port says."""
        return None if self._away else {queue: len(self.queues[queue]) for queue in queues if queue in self.queues}

    def answer(self, function: Key, state: QueueState) -> None:
        """What is said of the function's queue from now on."""
        self._answers[function] = state

    def disconnect(self) -> None:
        """Nothing can be parked."""
        self._away = True

    def connect(self) -> None:
        """Parking works again."""
        self._away = False
