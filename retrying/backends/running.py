"""Tasks in a worker: each job of a task channel runs its function, directly on the loop or in its slot's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from ..attempt import SUCCESS, Attempt, End, Ending, ending_of, trace_of
from ..conf import get_settings
from ..direct import DirectSlot
from ..exceptions import Bury, InvalidJob, RetryingError, Snooze
from ..job import from_ms
from ..routes import Handler, NoHandler
from ..threads import SlotThread
from .compat import (
    Task,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    is_heard,
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
        run = _Run(attempt, task, told, backend)
        if isinstance(task, RetryingTask) and callable(task.backoff) and attempt.policy.backoff is task.backoff:
            # As proposed for Django, it is given the task's result, where ours get the job.
            backoff = cast("Callable[..., Any]", task.backoff)
            attempt.policy = replace(attempt.policy, backoff=lambda error, _job: backoff(error, run.result))
        return run


class _Run:
    """One run of a task's function."""

    def __init__(self, attempt: Attempt, task: Task, told: TaskMessage, backend: RetryingBackend) -> None:
        self._attempt = attempt
        self._task = task
        self._told = told
        self._backend = backend
        self._started = time.time()
        #: What it returned, when that is kept.
        self._value: Any = None

    @cached_property
    def result(self) -> TaskResult:
        """Its result as long as it runs; made when somebody is to see it, which of most tasks nobody is."""
        attempt, told = self._attempt, self._told
        result = new_result(variant(self._task, told, attempt.job.priority), attempt.lease.job_id, told)
        started = datetime.fromtimestamp(self._started, UTC)
        change(
            result,
            status=TaskResultStatus.RUNNING,
            enqueued_at=from_ms(attempt.job.created),
            started_at=started,
            last_attempted_at=started,
            worker_ids=[""] * (attempt.number - 1) + [attempt.worker],
        )
        return result

    async def on_loop(self, thread: SlotThread) -> Ending:
        if self._attempt.number > 1:
            with self._history_is_optional():
                self._remember(await self._store.arun(self._history))
        if is_heard(task_started, logging.INFO):
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
        if is_heard(task_started, logging.INFO):
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
        task, told = self._task, self._told
        if task.takes_context:
            return task.func(TaskContext(task_result=self.result), *told.args, **told.kwargs)
        return task.func(*told.args, **told.kwargs)

    # What the claim doesn't tell of earlier attempts is read from the store

    @property
    def _store(self) -> Store:
        return self._backend.layer.store

    @property
    def _history(self) -> StoreCall[dict[str, bytes]]:
        return self._store.whole(self._attempt.channel, self._attempt.lease.job_id)

    def _remember(self, fields: dict[str, bytes]) -> None:
        if fields:
            fill(self.result, fields, None)

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
            return SUCCESS
        try:
            plain = None if value is None else normalize_json(value)
            encoded = self._backend.layer.encode_json({"value": plain})
        except (TypeError, ValueError, RecursionError, InvalidJob) as error:
            raise InvalidReturnValue(f"its return value isn't JSON: {error}") from error
        limit = get_settings().MAX_MESSAGE_BYTES
        if len(encoded) > limit:
            raise InvalidReturnValue(f"its return value takes {len(encoded)} bytes, the limit is {limit}")
        self._value = plain
        return Ending(End.SUCCESS, result=encoded, keep=keep)

    def _failed(self, error: BaseException) -> Ending:
        if self._attempt.settled:  # decided before the cancellation that came here: a timeout, a cancel, a lost lease
            ending = self._attempt.ending or Ending(End.RELEASE)
            if ending.trace:
                self.result.errors.append(error_of(ending.trace))
            return ending
        if not isinstance(error, Snooze):
            self.result.errors.append(error_of(trace_of(error)))  # first: a backoff function may look at it
        ending = ending_of(self._attempt, error)
        if not ending.is_final:
            logger.debug("attempt failed %s", self._attempt, exc_info=error)
        return ending

    def _finished(self, ending: Ending) -> bool:
        """Note in the result how it ended. False when nobody needs to hear of it: it will be tried again, say."""
        if self._attempt.settled:  # a task that swallowed its cancellation is none the better for it
            ending = self._attempt.ending or Ending(End.RELEASE)
        if not ending.is_final:
            return False
        succeeded = ending.end is End.SUCCESS
        if not is_heard(task_finished, logging.INFO if succeeded else logging.ERROR):
            return False
        status = TaskResultStatus.SUCCESSFUL if succeeded else TaskResultStatus.FAILED
        change(self.result, status=status, finished_at=datetime.now(UTC), _return_value=self._value)
        return True

    def _tell_here(self, signal: Any) -> None:
        if not told_to_log(signal, type(self._backend), self.result):
            signal.send_robust(type(self._backend), task_result=self.result)

    async def _tell(self, signal: Any, thread: SlotThread) -> None:
        # Receivers see, and decide nothing: one that raises is logged by Django, and the task ends as it ended.
        if not told_to_log(signal, type(self._backend), self.result):
            # Django runs those that aren't async in a thread, here the slot's: they may use the database.
            await thread.begin_job()
            await signal.asend_robust(type(self._backend), task_result=self.result)
