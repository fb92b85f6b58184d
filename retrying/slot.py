"""One application instance of a worker. Its ``receive()`` is both the demand for a job and the ack of the last one.

The other kind of slot, for handlers that are plain functions, is in direct.py; a lane knows what both of them have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

from channels.exceptions import StopConsumer

from . import hooks
from .attempt import SUCCESS, End, Ending, ending_of
from .context import Running, current_slot
from .reconnect import delay, end
from .threads import SlotThread

if TYPE_CHECKING:
    from .attempt import Attempt
    from .lane import Lane
    from .routes import ApplicationRoute

logger = logging.getLogger("retrying.worker")


#: Seconds that cancelled handlers get to end when the worker stops.
CANCEL_SECONDS = 1.0


async def send_to_nobody(message: Any) -> None:
    """What consumers of background channels get as ``send``."""
    raise RuntimeError(
        "a background consumer has no client to send to; use channel_layer.group_send() or current_job().emit()"
    )


class Slot(Protocol):
    """Runs one job at a time. Tells ``lane.want()`` that it is free, ``lane.hand.handler_ended()`` how one ended."""

    def start(self) -> None: ...

    @property
    def wants(self) -> bool:
        """Whether it still waits for a job."""

    def deliver(self, attempt: Attempt, message: dict[str, Any]) -> None:
        """Run the handler of a job; only when it ``wants`` one."""

    def cancel(self, attempt: Attempt) -> None:
        """Cancel the handler of ``attempt``, if it is still the one that runs here and can be cancelled."""

    async def close(self) -> None:
        """Cancel what runs, and let go of threads and connections; bounded in time."""


class Delivery(asyncio.Future[dict[str, Any]]):
    """What ``receive()`` returns: a message to come, which remembers whether the application took it."""

    taken = False
    #: Whose handler begins when it is taken, when somebody wants to know.
    observed: Attempt | None = None
    _unwanted = False

    def result(self) -> dict[str, Any]:
        # Tasks, asyncio.wait_for and Channels' await_many_dispatch all fetch a future's value here.
        message = super().result()
        self.taken = not self._unwanted
        if self.observed is not None and self.taken:
            attempt, self.observed = self.observed, None
            hooks.began(attempt)
        return message

    def cancel(self, msg: Any = None) -> bool:
        # Whoever waits is cancelled just after the message came. The waiting task still wakes up and fetches it, to be
        # told of the cancellation instead: counted as taken, the next receive() would ack what nobody has seen.
        self._unwanted = self.done() and not self.taken
        return super().cancel(msg)

    def __await__(self) -> Generator[Any, None, dict[str, Any]]:
        # The future's own passes result() by when the message is there already.
        if not self.done():
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def again(self) -> Delivery:
        """The same message once more."""
        other = Delivery(loop=self.get_loop())
        other.observed = self.observed
        other.set_result(super().result())
        return other


class InstanceSlot(Running):
    """Runs application instances, one after another; an instance handles jobs until it raises or returns."""

    def __init__(self, lane: Lane, route: ApplicationRoute) -> None:
        self.lane = lane
        self.route = route
        self._delivery: Delivery | None = None
        self._instance: asyncio.Task[None] | None = None
        #: The instance got a job.
        self._useful = False
        self._thread = SlotThread(lane.threads)
        self._thread.shared = route.is_sync

    def start(self) -> None:
        self.lane.spawn(self._run_instances())

    async def _run_instances(self) -> None:
        """Until the lane stops."""
        # Set before an instance starts, because what receive() sets is not seen by the handler.
        current_slot.set(self)
        self._thread.enter()
        fruitless = 0
        while not self.lane.stopping:
            self._delivery, self._useful = None, False
            self._instance = asyncio.create_task(self._run_instance())
            await asyncio.wait([self._instance])
            if self._useful:
                fruitless = 0
            else:  # it would end at once again: no hot loop
                await asyncio.sleep(delay(fruitless))
                fruitless += 1

    @property
    def wants(self) -> bool:
        """Whether its instance waits for a job."""
        return self._attempt is None and self._delivery is not None and not self._delivery.done()

    def deliver(self, attempt: Attempt, message: dict[str, Any]) -> None:
        assert self._delivery is not None
        self._attempt = attempt
        self._useful = True
        if hooks.observers:
            self._delivery.observed = attempt
        self._delivery.set_result(message)

    def cancel(self, attempt: Attempt) -> None:
        if self._attempt is attempt and attempt.cancellable:
            self._end()

    async def close(self) -> None:
        if self._instance is not None:
            # Not for ever: the thread of a sync handler can't be cancelled.
            await end([self._instance], patience=CANCEL_SECONDS)
        self._thread.close()

    def _end(self) -> None:
        if self._instance is not None:
            self._instance.cancel()

    # What the application sees

    def receive(self) -> Delivery:
        """The ack is this call, not the first step of a coroutine: Channels wraps ``receive()`` in a task that it may
        cancel before it starts, and a success must not be read as a failure then."""
        attempt, delivered = self._attempt, self._delivery
        if attempt is not None and not attempt.settled and delivered is not None and not delivered.taken:
            # The application gave up waiting (with a timeout, say) at the moment the job came: here it is again.
            self._delivery = delivered.again()
            return self._delivery
        self._attempt = None
        delivery = self._delivery = Delivery(loop=self.lane.loop)
        if attempt is not None:
            if attempt.observed is not None:
                hooks.ended(attempt, SUCCESS)
            swallowed = attempt.settled  # handler_ended() settles the others
            self.lane.hand.handler_ended(attempt, SUCCESS)
            if swallowed:
                # Its handler swallowed the cancellation that followed a timeout or a lost lease: no more jobs here.
                self.lane.loop.call_soon(self._end)
                return delivery
        self.lane.want(self)
        return delivery

    async def _run_instance(self) -> None:
        error: BaseException | None = None
        try:
            await self.route.application(self.route.scope, self.receive, send_to_nobody)
        except StopConsumer:
            pass
        except BaseException as raised:  # SystemExit included: a handler must not take the worker with it
            error = raised
        try:
            self._instance_ended(error)
        finally:
            await self._thread.close_connections()

    def _instance_ended(self, error: BaseException | None) -> None:
        attempt, self._attempt = self._attempt, None
        self.lane.intake.forget(self)
        if attempt is None:
            if isinstance(error, asyncio.CancelledError):
                return  # by us
            if self._delivery is None:
                logger.error(
                    "the application for channel %s ended without ever asking for a message; it is started again",
                    self.lane.channel,
                    exc_info=error,
                )
            elif error is not None:
                logger.error("an idle consumer of channel %s ended", self.lane.channel, exc_info=error)
        elif attempt.settled or (self._delivery is not None and self._delivery.taken):
            ending = self._ending(attempt, error)
            if attempt.observed is not None:
                hooks.ended(attempt, ending)
            self.lane.hand.handler_ended(attempt, ending)
        else:
            self.lane.hand.refuse(attempt, Ending(End.RELEASE))  # its handler never began

    def _ending(self, attempt: Attempt, error: BaseException | None) -> Ending:
        if attempt.settled:
            return SUCCESS  # nobody asks any more
        ending = ending_of(attempt, error)
        if ending.end is End.RETRY and self.route.lacks(attempt.message_type):
            reason = f"no handler for type {attempt.message_type!r}"
            return Ending(End.BURIAL, reason=reason, error=ending.error, trace=ending.trace)
        if ending.end in (End.RETRY, End.BURIAL):
            logger.debug("attempt failed %s", attempt, exc_info=error)
        return ending
