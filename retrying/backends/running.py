"""Tasks in a worker: each job of a task channel runs its function, directly on the loop or in its slot's thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.db import close_old_connections

from ..attempt import Attempt, End, Ending, ending_of, trace_of
from ..conf import get_settings
from ..direct import DirectSlot
from ..exceptions import Bury, InvalidJob, RetryingError, Snooze
from ..job import from_ms
from ..routes import Handler, NoHandler
from ..threads import SlotThread, close_used_connections
from .compat import (
    Task,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    is_only_logged,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from .message import TaskMessage
from .registry import find, tasks, variant
from .results import change, error_of, fill, new_result
from .task import RetryingTask

if TYPE_CHECKING:
    from ..lane import Lane
    from ..routes import Route
    from ..slot import Slot
    from . import RetryingBackend

logger = logging.getLogger("retrying.worker")


class InvalidReturnValue(Bury):
    """A task returned what can't be kept as its result. To run it again would not help."""


def task_routes(channels: Iterable[str], layer_alias: str = "default") -> dict[str, Route]:
    """How a worker runs those of ``channels`` that hold tasks of this backend.

    Imports the ``tasks`` modules of all installed apps; raises what that raises.
    """
    from . import RetryingBackend

    backends = {
        backend.alias: backend
        for backend in task_backends.all()
        if isinstance(backend, RetryingBackend) and layer_alias == backend.config.LAYER
    }
    routed = set(get_settings().ROUTES.values())
    found: dict[str, Route] = {}
    for channel in channels:
        queue = channel.removeprefix("tasks.")
        is_queue = queue != channel and any(not item.queues or queue in item.queues for item in backends.values())
        if backends and (is_queue or channel in routed):
            tasks()
            found[channel] = TaskRoute(channel, backends)
    return found


class TaskRoute:
    """Runs the tasks of one channel."""

    remark = ""

    def __init__(self, channel: str, backends: dict[str, RetryingBackend]) -> None:
        self.channel = channel
        self._backends = backends
        self._policy = get_settings().channel(channel).policy
        self._handlers: dict[str, Handler] = {}

    def handler(self, message_type: str) -> Handler:
        handler = self._handlers.get(message_type)
        if handler is None:
            task = find(message_type)
            if task is None:
                raise NoHandler(
                    f"no task {message_type!r} in the 'tasks' modules of the installed apps: bring it back (or name it "
                    "in RETRYING['ROUTES']) and redrive the job"
                )
            policy = task.policy(self._policy) if isinstance(task, RetryingTask) else self._policy
            handler = self._handlers[message_type] = Handler(policy, cancellable=iscoroutinefunction(task.func))
        return handler

    def slot(self, lane: Lane) -> Slot:
        return DirectSlot(lane, self.run)

    async def run(self, attempt: Attempt, message: dict[str, Any], thread: SlotThread) -> Ending:
        """One attempt, from its first signal to its last."""
        try:
            told = TaskMessage.read(message)
        except ValueError as error:
            raise Bury(str(error)) from error
        backend = self._backends.get(told.backend)
        if backend is None:
            raise Bury(f"TASKS has no backend {told.backend!r} that this worker could run it for")
        task = find(attempt.message_type)
        assert task is not None  # else handler() would have refused it
        result = await _result(attempt, told, variant(task, told, attempt.job.priority), backend)
        run = _Run(attempt, result, backend)
        if isinstance(task, RetryingTask) and callable(task.backoff) and attempt.policy.backoff is task.backoff:
            # As proposed for Django, it is given the task's result, where ours get the job.
            backoff = task.backoff
            attempt.policy = replace(attempt.policy, backoff=lambda error, _job: backoff(error, cast("Any", result)))
        try:
            return await run(thread)
        finally:
            await thread.end_job()


async def _result(attempt: Attempt, message: TaskMessage, task: Task, backend: RetryingBackend) -> TaskResult:
    """The running task's result. What the claim doesn't tell of earlier attempts is read from the store."""
    result = new_result(task, attempt.lease.job_id, message)
    fields: dict[str, bytes] = {}
    if attempt.number > 1:
        store = backend.layer.store
        try:
            fields = await store.arun(store.whole(attempt.channel, attempt.lease.job_id))
        except RetryingError as error:
            logger.warning("the task runs without the history of its attempts: %s %s", error, attempt)
    if fields:
        fill(result, fields, None)
    else:
        now = datetime.now(UTC)
        change(
            result,
            status=TaskResultStatus.RUNNING,
            enqueued_at=from_ms(attempt.job.created),
            started_at=now,
            last_attempted_at=now,
            worker_ids=[""] * (attempt.number - 1) + [attempt.worker],
        )
    return result


class _Run:
    """One run of a task's function."""

    def __init__(self, attempt: Attempt, result: TaskResult, backend: RetryingBackend) -> None:
        self._attempt = attempt
        self._result = result
        self._backend = backend
        self._task = result.task
        self._arguments: list[Any] = [TaskContext(task_result=result)] if self._task.takes_context else []

    async def __call__(self, thread: SlotThread) -> Ending:
        await self._tell(task_started, thread)
        try:
            ending = self._succeeded(await self._call(thread))
        except BaseException as error:  # a task must not take the worker with it
            ending = self._failed(error)
            if self._finished(ending):
                await self._tell(task_finished, thread)  # inside the except block, where Django has it
        else:
            if self._finished(ending):
                await self._tell(task_finished, thread)
        return ending

    async def _call(self, thread: SlotThread) -> Any:
        if iscoroutinefunction(self._task.func):
            await thread.begin_job()
            return await self._task.func(*self._arguments, *self._result.args, **self._result.kwargs)
        thread.shared = True
        try:
            value, error = await _in_thread(self)
        finally:
            thread.shared = False
        if error is not None:
            raise error
        return value

    def _call_sync(self) -> tuple[Any, BaseException | None]:
        # Only the function: what else there is to do costs several times as much in another thread. Its error as a
        # value: a future can't carry each of them (StopIteration).
        close_old_connections()
        try:
            return self._task.func(*self._arguments, *self._result.args, **self._result.kwargs), None
        except BaseException as error:  # told to the caller
            return None, error
        finally:
            close_used_connections()

    def _succeeded(self, value: Any) -> Ending:
        keep = self._backend.config.RESULT_TTL
        if not keep:
            return Ending(End.SUCCESS)
        try:
            plain = normalize_json(value)
            encoded = self._backend.layer.encode({"value": plain})
        except (TypeError, ValueError, RecursionError, InvalidJob) as error:
            raise InvalidReturnValue(f"its return value isn't JSON: {error}") from error
        limit = get_settings().MAX_MESSAGE_BYTES
        if len(encoded) > limit:
            raise InvalidReturnValue(f"its return value takes {len(encoded)} bytes, the limit is {limit}")
        change(self._result, _return_value=plain)
        return Ending(End.SUCCESS, result=encoded, keep=keep)

    def _failed(self, error: BaseException) -> Ending:
        if self._attempt.settled:  # decided before the cancellation that came here: a timeout, a cancel, a lost lease
            ending = self._attempt.ending or Ending(End.RELEASE)
            if ending.trace:
                self._result.errors.append(error_of(ending.trace))
            return ending
        if not isinstance(error, Snooze):
            self._result.errors.append(error_of(trace_of(error)))  # first: a backoff function may look at it
        ending = ending_of(self._attempt, error)
        if not ending.is_final:
            logger.debug("attempt failed %s", self._attempt, exc_info=error)
        return ending

    def _finished(self, ending: Ending) -> bool:
        """Note in the result how it ended; False when it didn't, and will be tried again."""
        if self._attempt.settled:  # a task that swallowed its cancellation is none the better for it
            ending = self._attempt.ending or Ending(End.RELEASE)
        if not ending.is_final:
            return False
        succeeded = ending.end is End.SUCCESS
        status = TaskResultStatus.SUCCESSFUL if succeeded else TaskResultStatus.FAILED
        change(self._result, status=status, finished_at=datetime.now(UTC))
        return True

    async def _tell(self, signal: Any, thread: SlotThread) -> None:
        # Receivers see, and decide nothing: one that raises is logged by Django, and the task ends as it ended.
        sender = type(self._backend)
        if is_only_logged(signal, sender):
            signal.send_robust(sender, task_result=self._result)
        else:  # Django runs those that aren't async in a thread, here the slot's: they may use the database
            await thread.begin_job()
            await signal.asend_robust(sender, task_result=self._result)


#: Made once: to make it costs as much as to call it.
_in_thread = sync_to_async(_Run._call_sync)
