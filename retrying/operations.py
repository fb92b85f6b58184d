"""One definition of an operation on the store, for sync and for async callers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from .exceptions import RetryingError, StoreUnavailable
from .layers import get_layer
from .store.calls import Call

P = ParamSpec("P")
T = TypeVar("T")
#: What an operation does, without the sending: it yields requests, is sent their results (or thrown their errors), and
#: returns its own.
Steps = Generator[Call[Any], Any, T]
#: Goes on to the next request.
Step = Callable[[], Call[Any]]


def ask(call: Call[T]) -> Steps[T]:
    """The step that sends one request."""
    result: T = yield call
    return result


def blocking(make: Callable[P, Steps[T]]) -> Callable[P, T]:
    """The operation for sync code. Its keyword ``using`` is the alias of the channel layer."""

    @wraps(make)
    def function(*args: P.args, **kwargs: P.kwargs) -> T:
        steps = make(*args, **kwargs)
        store = get_layer(str(kwargs.get("using", "default"))).store
        step: Step = partial(steps.send, None)
        while True:
            try:
                call = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = partial(steps.send, store.run(call))
            except RetryingError as error:
                step = partial(steps.throw, error)

    return _signed(function, make)


def awaitable(operation: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same ``blocking`` operation for async code, named with an ``a`` before its name."""
    make: Callable[P, Steps[T]] = inspect.unwrap(operation)

    @wraps(make)
    async def function(*args: P.args, **kwargs: P.kwargs) -> T:
        steps = make(*args, **kwargs)
        layer = get_layer(str(kwargs.get("using", "default")))
        step: Step = partial(steps.send, None)
        while True:
            try:
                call = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = partial(steps.send, await layer.arun(call))
            except RetryingError as error:
                step = partial(steps.throw, error)

    function.__name__ = function.__qualname__ = f"a{make.__name__}"
    function.__doc__ = f"``{make.__name__}`` for async code. {make.__doc__}"
    return _signed(function, make)


def within(seconds: float, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``work`` returns, for sync code that is to answer soon: a sync request to a server that never answers takes
    half a minute, with its repetitions.

    It opens connections of its own, so it is nothing for what is done often. Raises StoreUnavailable after ``seconds``.
    """

    async def bounded() -> T:
        try:
            async with asyncio.timeout(seconds):
                return await work()
        except TimeoutError:
            raise StoreUnavailable(f"the job store did not answer within {seconds:g} s") from None

    with ThreadPoolExecutor(1, "retrying-within") as thread:  # this one may have an event loop
        return thread.submit(asyncio.run, bounded()).result()


def _signed(function: Callable[P, T], make: Callable[P, Steps[Any]]) -> Callable[P, T]:
    # What help() and editors show: the result, not the steps to it.
    signature = inspect.signature(make)
    result = str(signature.return_annotation).removeprefix("Steps[").removesuffix("]")
    function.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
    return function
