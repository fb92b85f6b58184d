"""A backend for Django's tasks: a task is a job on the channel ``tasks.<queue>``, which ``runworker`` runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils import timezone
from msgspec.structs import replace

from ..bulk import EnqueuedMany, Pieces, asend_many, send_many
from ..exceptions import InvalidJob
from ..job import from_ms
from ..joblayer import JobLayer
from ..layers import get_layer
from ..message import CHANNEL_NAME, JOB_ID, JobOptions, new_id
from ..store.calls import Enqueued, NewJob
from .compat import (
    BaseTaskBackend,
    InvalidTask,
    InvalidTaskBackend,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    is_heard,
    task_enqueued,
    told_to_log,
)
from .message import TaskMessage, checked_arguments
from .options import MAX_ID, Options, channel_of, channel_problem, problems
from .registry import find, may_run, variant
from .results import STATUSES, change, fill, new_result
from .task import Arguments, RetryingTask

__all__ = ["Prepared", "RetryingBackend", "RetryingTask"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task about to be enqueued: the job to store on ``channel``, and the result that its caller gets."""

    channel: str
    job: NewJob
    result: TaskResult


def checked_id(own: str, channel: str) -> str:
    """The id of a task's job, which is that of its result. Raises InvalidTask when it would be too long."""
    most = MAX_ID - 1 - len(channel)
    if len(own) > most:
        raise InvalidTask(f"job_id takes at most {most} characters on channel {channel!r}, got {own!r}")
    return f"{own}@{channel}"


class RetryingBackend(BaseTaskBackend):
    """``TASKS = {"default": {"BACKEND": "retrying.backends.RetryingBackend", "QUEUES": [...], "OPTIONS": {...}}}``.

    OPTIONS: see options.py. Nothing is imported from models and nothing connects before a task is enqueued.
    """

    task_class = RetryingTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._params = params

    def check(self, **_: Any) -> list[checks.CheckMessage]:
        try:
            found = self._problems()
        except ImproperlyConfigured:  # RETRYING itself: retrying.E002 tells
            return []
        return [checks.Error(problem, hint="See docs/tasks.md.", id="retrying.E007") for problem in found]

    def _problems(self) -> list[str]:
        return list(problems(self.alias, self._params.get("QUEUES", []), self._params.get("OPTIONS", {})))

    @cached_property
    def config(self) -> Options:
        """OPTIONS. Raises InvalidTaskBackend, saying what ``check`` says."""
        if found := self._problems():
            raise InvalidTaskBackend("\n".join(found))
        return Options(**self.options)

    @property
    def layer(self) -> JobLayer:
        return get_layer(self.config.LAYER)

    def validate_task(self, task: Task) -> None:
        """Raises InvalidTask, when the task is declared, changed by ``using``, or enqueued."""
        super().validate_task(task)
        if problem := channel_problem(channel_of(task.module_path, task.queue_name)):
            raise InvalidTask(f"queue {task.queue_name!r} is {problem}")

    # Enqueueing

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Store a job for the task, now or when the transaction commits.

        Raises InvalidTask (nothing written), ChannelFull, StoreFull, StoreUnavailable.
        """
        new = self.prepare(task, args, kwargs)
        if using := self._commits_with(task):
            transaction.on_commit(partial(self._send, new), using=using)
        else:
            self._send(new)
        return new.result

    async def aenqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """``enqueue`` from async code, without a thread; with ``enqueue_on_commit`` in the thread that the transaction
        is in."""
        new = self.prepare(task, args, kwargs)
        if using := self._commits_with(task):
            await sync_to_async(transaction.on_commit)(partial(self._send, new), using=using)
            return new.result
        stored = await self.layer.asend_one(new.channel, new.job)
        self._stored(new, stored)
        heard = stored.new and is_heard(task_enqueued, logging.DEBUG)
        if heard and not told_to_log(task_enqueued, type(self), new.result):
            await task_enqueued.asend_robust(type(self), task_result=new.result)
        return new.result

    def _send(self, new: Prepared) -> None:
        stored = self.layer.send_one(new.channel, new.job)
        self._stored(new, stored)
        if stored.new and is_heard(task_enqueued, logging.DEBUG):
            task_enqueued.send_robust(type(self), task_result=new.result)

    @staticmethod
    def _stored(new: Prepared, stored: Enqueued) -> None:
        # Not new: another job has that id or unique name, and this is its result; refresh() tells the rest.
        created = None if stored.created is None else from_ms(stored.created)
        change(new.result, id=stored.id, status=STATUSES[stored.state], enqueued_at=created)

    def enqueue_many(
        self, task: Task, calls: Iterable[Arguments], *, batch: str | None = None, max_backlog: int | None = None
    ) -> EnqueuedMany:
        """Store a job for each of ``calls`` (see RetryingTask.enqueue_many) at once, in constant memory, whatever
        transaction is open; ``task_enqueued`` is not sent. ``batch``, ``max_backlog`` and errors: see
        retrying.enqueue_many; InvalidTask instead of InvalidJob for a bad item."""
        return send_many(self._pieces(task, batch, max_backlog), calls)

    async def aenqueue_many(
        self,
        task: Task,
        calls: Iterable[Arguments] | AsyncIterable[Arguments],
        *,
        batch: str | None = None,
        max_backlog: int | None = None,
    ) -> EnqueuedMany:
        """``enqueue_many`` from async code; ``calls`` may be async."""
        return await asend_many(self._pieces(task, batch, max_backlog), calls)

    def _pieces(self, task: Task, batch: str | None, max_backlog: int | None) -> Pieces:
        self.validate_task(task)
        channel = channel_of(task.module_path, task.queue_name)

        def job_of(call: Arguments, job_id: str | None) -> NewJob:
            if not isinstance(call, (Mapping, list, tuple)):
                raise InvalidTask(f"arguments are a dict (by name) or a list or tuple, got {type(call).__name__}")
            args, kwargs = ((), call) if isinstance(call, Mapping) else (call, {})
            job = self.prepare(task, args, kwargs).job
            return job if job_id is None else replace(job, id=checked_id(job_id, channel))

        return Pieces(self.layer, channel, job_of, batch=batch, max_backlog=max_backlog, invalid=InvalidTask)

    def prepare(self, task: Task, args: Any, kwargs: Any) -> Prepared:
        """The job of a task, checked; nothing is written. Raises InvalidTask."""
        self.validate_task(task)
        path = task.module_path
        if not may_run(task):
            raise InvalidTask(
                f"no worker would find the task {path!r}: import it in the 'tasks' module of an installed app, "
                "or name it in RETRYING['ROUTES']"
            )
        args, kwargs = checked_arguments(args, kwargs)
        channel = channel_of(path, task.queue_name)
        options: dict[str, Any] = {"delay": getattr(task, "delay", None), **getattr(task, "job_options", {})}
        job_id = checked_id(options.pop("job_id", None) or new_id(), channel)
        message = TaskMessage(path, self.alias, task.queue_name, args, kwargs)
        run_at = task.run_after
        if run_at is not None and timezone.is_naive(run_at):  # without USE_TZ
            run_at = timezone.make_aware(run_at)
        try:
            options |= {"job_id": job_id, "priority": int(task.priority), "run_at": run_at}
            job = self.layer.job(channel, message.plain(), cast("JobOptions", options))
        except InvalidJob as error:
            raise InvalidTask(f"{path}: {error}") from error
        return Prepared(channel, job, new_result(task, job.id, message))

    def _commits_with(self, task: Task) -> str:
        """Alias of the database whose commit enqueues it; "" when nothing is waited for. Raises InvalidTask."""
        wanted = getattr(task, "enqueue_on_commit", None)
        if wanted is None:
            wanted = self.config.ENQUEUE_ON_COMMIT
        using: str = DEFAULT_DB_ALIAS if wanted is True else wanted or ""
        if using and using not in connections:
            known = ", ".join(map(repr, connections))
            raise InvalidTask(f"enqueue_on_commit names the database {using!r}; DATABASES has {known}")
        return using

    # Results

    def get_result(self, result_id: str) -> TaskResult:
        """Raises TaskResultDoesNotExist: unknown, expired, not kept, or of a task that the code no longer has."""
        layer = self.layer
        return self._result(result_id, layer.store.run(layer.store.whole(*self._place(result_id))))

    async def aget_result(self, result_id: str) -> TaskResult:
        layer = self.layer
        return self._result(result_id, await layer.arun(layer.store.whole(*self._place(result_id))))

    @staticmethod
    def _place(result_id: object) -> tuple[str, str]:
        if not isinstance(result_id, str) or not JOB_ID.fullmatch(result_id):
            raise TaskResultDoesNotExist(result_id)
        channel = result_id.rpartition("@")[2]
        if not CHANNEL_NAME.fullmatch(channel):
            raise TaskResultDoesNotExist(result_id)
        return channel, result_id

    def _result(self, result_id: str, fields: dict[str, bytes]) -> TaskResult:
        try:
            message = TaskMessage.read(self.layer.decode(fields["payload"]))
        except (KeyError, ValueError) as error:  # nothing there, not readable, not a task
            raise TaskResultDoesNotExist(result_id) from error
        if message.backend != self.alias:
            raise TaskResultDoesNotExist(result_id)
        task = find(message.path)
        if task is None:
            raise TaskResultDoesNotExist(f"{result_id}: its task {message.path!r} is no longer in the code")
        task = variant(task, message, int(fields.get("priority", 0)))
        result = new_result(task, result_id, message)
        fill(result, fields, self.layer.decode(fields["result"])["value"] if "result" in fields else None)
        return result
