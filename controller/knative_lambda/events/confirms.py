"""Bookkeeping of publisher confirms: which events of which publish are on the way, confirmed, refused or lost.

No AMQP in here; rabbitmq feeds it delivery tags. One `Ledger` per connection, one `Batch` per publish.
"""

from __future__ import annotations

import asyncio


class Batch:
    """What became of the events of one publish, by their place in it."""

    def __init__(self) -> None:
        self.confirmed: set[int] = set()
        self._on_the_way = 0
        self._settled = asyncio.Event()
        self._settled.set()

    async def settled(self, seconds: float) -> bool:
        """Waits until nothing is on the way any more; False when `seconds` were not enough."""
        return await _within(self._settled, seconds)

    def sent(self) -> None:
        self._on_the_way += 1
        self._settled.clear()

    def returned(self, index: int, *, accepted: bool) -> None:
        self._on_the_way -= 1
        if accepted:
            self.confirmed.add(index)
        if self._on_the_way == 0:
            self._settled.set()


class Ledger:
    """What one channel has sent and the broker has not answered for; at most `window` events."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._outstanding: dict[int, tuple[Batch, int]] = {}
        self._last_tag = 0
        self._sealed = False
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.stalled = False
        """The broker let a batch wait too long and has not answered for anything since."""

    @property
    def outstanding(self) -> int:
        return len(self._outstanding)

    async def room(self, seconds: float) -> bool:
        """Waits for a place in the window; False after `seconds`, and at once when nothing may be sent."""
        while not self._sealed and len(self._outstanding) >= self._window:
            if not await _within(self._room, seconds):
                return False
        return not self._sealed

    async def drained(self, seconds: float) -> bool:
        """Waits until every event is answered for."""
        return await _within(self._empty, seconds)

    def sent(self, batch: Batch, index: int) -> None:
        """The next message of the channel carries event `index` of `batch`; tags count from 1, as AMQP has it."""
        self._last_tag += 1
        self._outstanding[self._last_tag] = (batch, index)
        self._empty.clear()
        if len(self._outstanding) >= self._window:
            self._room.clear()
        batch.sent()

    def answered(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        """The broker's ack or nack; with `multiple` for every tag up to this one. Unknown tags are passed over."""
        self.stalled = False
        for each in self._up_to(tag) if multiple else [tag]:
            self._return(each, accepted=accepted)
        self._wake()

    def seal(self) -> None:
        """Nothing more is sent; what is on the way may still be answered for."""
        self._sealed = True
        self._room.set()

    def lose(self) -> None:
        """The connection is gone, and with it every answer."""
        self.seal()
        for tag in list(self._outstanding):
            self._return(tag, accepted=False)
        self._wake()

    def _up_to(self, tag: int) -> list[int]:
        """Outstanding tags in order, so that the walk ends at the first later one; 0 stands for all of them."""
        found = []
        for each in self._outstanding:
            if tag and each > tag:
                break
            found.append(each)
        return found

    def _return(self, tag: int, *, accepted: bool) -> None:
        entry = self._outstanding.pop(tag, None)
        if entry is not None:
            batch, index = entry
            batch.returned(index, accepted=accepted)

    def _wake(self) -> None:
        if len(self._outstanding) < self._window:
            self._room.set()
        if not self._outstanding:
            self._empty.set()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
