"""Tasks in a worker: each job of a task channel runs its function, directly on the loop or in its slot's thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from ..attempt import Attempt, End, Ending, ending_of, trace_of
from ..conf import get_settings
from ..direct import DirectSlot
from ..exceptions import Bury, InvalidJob, RetryingError, Snooze
from ..job import from_ms
from ..routes import Handler, NoHandler
from ..threads import SlotThread
from .compat import (
    TaskContext,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
    told_to_log,
)
from .message import TaskMessage
from .registry import find, tasks, variant
from .results import change, error_of, fill, new_result
from .task import RetryingTask

if TYPE_CHECKING:
    from ..lane import Lane
    from ..routes import Route
    from ..slot import Slot
    from ..store import Store
    from ..store.calls import Call as StoreCall
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
        return DirectSlot(lane, self)

    async def run(self, attempt: Attempt, message: dict[str, Any], thread: SlotThread) -> Ending:
        """One attempt of an async task, from its first signal to its last."""
        try:
            return await self._run(attempt, message).on_loop(thread)
        finally:
            await thread.end_job()

    def run_in_thread(self, attempt: Attempt, message: dict[str, Any]) -> Ending:
        """One attempt of a sync task."""
        return self._run(attempt, message).in_thread()

    def _run(self, attempt: Attempt, message: dict[str, Any]) -> _Run:
        try:
            told = TaskMessage.read(message)
        except ValueError as error:
            raise Bury(str(error)) from error
        backend = self._backends.get(told.backend)
        if backend is None:
            raise Bury(f"TASKS has no backend {told.backend!r} that this worker could run it for")
        task = find(attempt.message_type)
        assert task is not None  # else handler() would have refused it
        result = new_result(variant(task, told, attempt.job.priority), attempt.lease.job_id, told)
        if isinstance(task, RetryingTask) and callable(task.backoff) and attempt.policy.backoff is task.backoff:
            # As proposed for Django, it is given the task's result, where ours get the job.
            backoff = task.backoff
            attempt.policy = replace(attempt.policy, backoff=lambda error, _job: backoff(error, cast("Any", result)))
        return _Run(attempt, result, backend)


class _Run:
    """One run of a task's function."""

    def __init__(self, attempt: Attempt, result: TaskResult, backend: RetryingBackend) -> None:
        self._attempt = attempt
        self._result = result
        self._backend = backend
        self._sender = type(backend)
        now = datetime.now(UTC)
        change(
            result,
            status=TaskResultStatus.RUNNING,
            enqueued_at=from_ms(attempt.job.created),
            started_at=now,
            last_attempted_at=now,
            worker_ids=[""] * (attempt.number - 1) + [attempt.worker],
        )

    async def on_loop(self, thread: SlotThread) -> Ending:
        if self._attempt.number > 1:
            with self._history_is_optional():
                self._remember(await self._store.arun(self._history))
        await self._tell(task_started, thread)
        try:
            await thread.begin_job()
            ending = self._succeeded(await self._call())
        except BaseException as error:  # a task must not take the worker with it
            ending = self._failed(error)
            if self._finished(ending):
                await self._tell(task_finished, thread)  # inside the except block, where Django has it
        else:
            if self._finished(ending):
                await self._tell(task_finished, thread)
        return ending

    def in_thread(self) -> Ending:
        """``on_loop``, where nothing needs to be awaited."""
        if self._attempt.number > 1:
            with self._history_is_optional():
                self._remember(self._store.run(self._history))
        self._tell_here(task_started)
        try:
            ending = self._succeeded(self._call())
        except BaseException as error:
            ending = self._failed(error)
            if self._finished(ending):
                self._tell_here(task_finished)
        else:
            if self._finished(ending):
                self._tell_here(task_finished)
        return ending

    def _call(self) -> Any:
        result = self._result
        context: list[Any] = [TaskContext(task_result=result)] if result.task.takes_context else []
        return result.task.func(*context, *result.args, **result.kwargs)

    # What the claim doesn't tell of earlier attempts is read from the store

    @property
    def _store(self) -> Store:
        return self._backend.layer.store

    @property
    def _history(self) -> StoreCall[dict[str, bytes]]:
        return self._store.whole(self._attempt.channel, self._attempt.lease.job_id)

    def _remember(self, fields: dict[str, bytes]) -> None:
        if fields:
            fill(self._result, fields, None)

    @contextmanager
    def _history_is_optional(self) -> Iterator[None]:
        try:
            yield
        except RetryingError as error:
            logger.warning("the task runs without the history of its attempts: %s %s", error, self._attempt)

    # How it ends

    def _succeeded(self, value: Any) -> Ending:
        keep = self._backend.config.RESULT_TTL
        if not keep:
            return Ending(End.SUCCESS)
        try:
            plain = None if value is None else normalize_json(value)
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

    def _tell_here(self, signal: Any) -> None:
        if not told_to_log(signal, self._sender, self._result):
            signal.send_robust(self._sender, task_result=self._result)

    async def _tell(self, signal: Any, thread: SlotThread) -> None:
        # Receivers see, and decide nothing: one that raises is logged by Django, and the task ends as it ended.
        if not told_to_log(signal, self._sender, self._result):
            # Django runs those that aren't async in a thread, here the slot's: they may use the database.
            await thread.begin_job()
            await signal.asend_robust(self._sender, task_result=self._result)
