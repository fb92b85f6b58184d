"""Arguments of a task: what JSON can carry, as Django normalizes it, and words for what it can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..exceptions import InvalidJob
from ..message import check_json
from .compat import InvalidTask, normalize_json


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
