"""``RetryingTask``: Django's Task, with what this backend can do beside."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from ..exceptions import InvalidPolicy
from ..message import JobOptions
from ..policy import Backoff, RetryPolicy, to_backoff
from .compat import InvalidTask, Task

if TYPE_CHECKING:
    from ..bulk import EnqueuedMany

#: Of one call of a task: by name, or by position.
Arguments = Mapping[str, Any] | Sequence[Any]
#: What the Task itself says of a job.
OF_THE_TASK = {"priority", "delay", "run_at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryingTask(Task):
    """What ``@task`` makes with this backend. ``@task`` takes its fields from Django 6.1 on, and with the backport."""

    #: Runs in all, the first one included; None: as ``@retry``, else the queue says.
    max_attempts: int | None = None
    #: ``(exception, task_result) -> seconds | timedelta | None`` (None = give up), or what ``@retry(backoff=)`` takes.
    backoff: Backoff | None = field(default=None, hash=False)
    #: Enqueue when the transaction commits: of the default database (True) or of the one with that alias. None: as the
    #: backend's OPTIONS say.
    enqueue_on_commit: bool | str | None = None
    #: How long after it was enqueued it may start; ``using(run_after=timedelta(...))`` sets it.
    delay: timedelta | None = None
    #: More options of its jobs; see JobOptions.
    job_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        run_after: object = self.run_after
        if isinstance(run_after, timedelta):
            if run_after < timedelta(0):
                raise InvalidTask(f"run_after takes a time to come, got {run_after!r}")
            object.__setattr__(self, "delay", run_after)
            object.__setattr__(self, "run_after", None)
        elif run_after is not None and not isinstance(run_after, datetime):
            raise InvalidTask(f"run_after takes a datetime with a time zone or a timedelta, got {run_after!r}")
        elif run_after is not None:
            object.__setattr__(self, "delay", None)
        limit: object = self.max_attempts
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InvalidTask(f"max_attempts takes a whole number from 1 on, got {limit!r}")
        if self.backoff is not None:
            try:
                object.__setattr__(self, "backoff", to_backoff(self.backoff))
            except InvalidPolicy as error:
                raise InvalidTask(str(error)) from error
        if self.own_policy and hasattr(self.func, "retry_policy"):
            raise InvalidTask("say it once: either @retry under @task, or @task(max_attempts=..., backoff=...)")
        if not isinstance(self.enqueue_on_commit, (bool, str, type(None))):
            raise InvalidTask(
                f"enqueue_on_commit takes True, False or the alias of a database, got {self.enqueue_on_commit!r}"
            )
        if unknown := self.job_options.keys() - (JobOptions.__annotations__.keys() - OF_THE_TASK):
            raise InvalidTask(f"a task has no option {', '.join(sorted(unknown))}")
        super(RetryingTask, self).__post_init__()

    @property
    def own_policy(self) -> bool:
        """Whether ``@task`` says how it is retried."""
        return self.max_attempts is not None or self.backoff is not None

    def policy(self, base: RetryPolicy) -> RetryPolicy:
        """How it is retried; ``base``: as the queue says."""
        found: RetryPolicy = getattr(self.func, "retry_policy", base)
        if self.max_attempts is not None:
            found = replace(found, max_retries=self.max_attempts - 1)
        if self.backoff is not None:
            found = replace(found, backoff=self.backoff)
        return found

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        enqueue_on_commit: bool | str | None = None,
        **options: Any,
    ) -> Self:
        """As Django's, and: ``run_after`` also as a timedelta, counted from when it is enqueued;
        ``enqueue_on_commit``: True, False or a database alias; ``options``: see JobOptions. Raises InvalidTask."""
        given = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "enqueue_on_commit": enqueue_on_commit,
        }
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if options:
            changes["job_options"] = {**self.job_options, **options}
        return replace(self, **changes)

    def enqueue_many(
        self, calls: Iterable[Arguments], *, batch: str | None = None, max_backlog: int | None = None
    ) -> EnqueuedMany:
        """Enqueue the task for each of ``calls``, any iterable of its arguments: a dict (by name), or a list or tuple.

        See RetryingBackend.enqueue_many; it raises InvalidTask naming the index of a bad item.
        """
        backend: Any = self.get_backend()
        found: EnqueuedMany = backend.enqueue_many(self, calls, batch=batch, max_backlog=max_backlog)
        return found

    async def aenqueue_many(
        self,
        calls: Iterable[Arguments] | AsyncIterable[Arguments],
        *,
        batch: str | None = None,
        max_backlog: int | None = None,
    ) -> EnqueuedMany:
        """``enqueue_many`` from async code; ``calls`` may be async."""
        backend: Any = self.get_backend()
        found: EnqueuedMany = await backend.aenqueue_many(self, calls, batch=batch, max_backlog=max_backlog)
        return found

    def __reduce__(self) -> Any:
        # By name, as functions are pickled, and with what may differ from the one of that name.
        changes = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in ("func", "takes_context", "max_attempts", "backoff")
        }
        return _named, (self.module_path, changes)


def _named(path: str, changes: dict[str, Any]) -> RetryingTask:
    from .registry import find

    task = find(path)
    if not isinstance(task, RetryingTask):
        raise ValueError(f"expected {path!r} to be a task of this backend")  # noqa: TRY004  (as Django's own)
    return replace(task, **changes)
