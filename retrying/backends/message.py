"""A job's message when it is a task: its function's path and its arguments, which are what JSON can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import InvalidJob
from ..message import check_json
from .compat import InvalidTask, normalize_json

#: What a stored task has to have.
KINDS = (("type", str), ("backend", str), ("queue", str), ("args", list), ("kwargs", dict))


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A task as it is stored. ``path``: ``module.function``, the ``type`` of the message; ``backend``: alias."""

    path: str
    backend: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> TaskMessage:
        """Raises ValueError when it isn't the message of a task."""
        for name, kind in KINDS:
            if not isinstance(message.get(name), kind):
                raise ValueError(f"it isn't the message of a task: {name!r} is no {kind.__name__}")  # noqa: TRY004  (bad data, no bug)
        return cls(message["type"], message["backend"], message["queue"], message["args"], message["kwargs"])

    def plain(self) -> dict[str, Any]:
        """As the layer stores it."""
        return {
            "type": self.path,
            "backend": self.backend,
            "queue": self.queue,
            "args": self.args,
            "kwargs": self.kwargs,
        }


class InvalidArguments(InvalidTask, TypeError):
    """Also a TypeError, as Django's own backends raise it for the same."""


def checked_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """``args`` and ``kwargs`` as plain JSON. Raises InvalidArguments naming the path of the first value that isn't."""
    try:
        plain: Any = normalize_json(list(args)), normalize_json(dict(kwargs))
    except (TypeError, ValueError, RecursionError) as error:
        _check(list(args), dict(kwargs))
        raise InvalidArguments(f"the arguments aren't JSON: {error}") from error
    _check(*plain)
    return plain  # type: ignore[no-any-return]


def _check(args: list[Any], kwargs: dict[str, Any]) -> None:
    try:
        check_json(args, "args")
        check_json(kwargs, "kwargs")
    except InvalidJob as error:
        raise InvalidArguments(str(error)) from error
