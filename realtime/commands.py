"""Declared commands: the only methods of a consumer that a browser can call, with typed arguments."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

import msgspec

from .protocol import Code, problem_by_field

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])

_MARK = "_realtime_command"
_SHAPE = "async def {name}(self, args: Arguments, command_id: str) -> dict"


class CommandDeclarationError(TypeError):
    """A @command method is not declared as one must be."""


class CommandError(Exception):
    """Raised by a command: the browser gets an error frame, the socket stays up.

    ``code``: see `realtime.protocol.Code`; ``message``: a sentence for people; ``fields``: {argument: problem}.
    """

    def __init__(self, code: str, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = str(code)
        self.message = message
        self.fields = dict(fields or {})


def command(method: Handler) -> Handler:
    """Declare a method as a command: ``async def deliver(self, args: Deliver, command_id: str) -> dict``.

    ``Deliver`` is a ``msgspec.Struct``: what the browser sends is decoded and validated into it first. The result is
    sent with the acknowledgement. The same command may arrive again with the same id: be idempotent by user and id.
    Raises CommandDeclarationError, here or when the consumer class is made.
    """
    name = getattr(method, "__name__", repr(method))
    if not inspect.iscoroutinefunction(inspect.unwrap(method)):
        raise CommandDeclarationError(f"@command {name} must be a coroutine method: {_SHAPE.format(name=name)}")
    if name.startswith("_"):
        raise CommandDeclarationError(f"@command {name}: a name that starts with an underscore can't be a command")
    parameters = list(inspect.signature(method).parameters)
    if len(parameters) != 3 or parameters[1:] != ["args", "command_id"]:
        found = ", ".join(parameters)
        raise CommandDeclarationError(f"@command {name} takes ({found}); it must be: {_SHAPE.format(name=name)}")
    setattr(method, _MARK, True)
    return method


@dataclass(frozen=True, slots=True)
class Declared:
    """A command of a consumer class: the name of its method and the decoder of its arguments."""

    method: str
    decoder: msgspec.json.Decoder[Any]

    def arguments(self, raw: msgspec.Raw) -> Any:
        """The validated arguments. Raises CommandError with code bad_input."""
        try:
            return self.decoder.decode(raw)
        except msgspec.ValidationError as error:
            problems = problem_by_field(error)
            raise CommandError(Code.BAD_INPUT, f"The arguments are not valid: {error}.", problems) from error


def declared_commands(consumer: type) -> Mapping[str, Declared]:
    """The commands of a consumer class by name. Raises CommandDeclarationError."""
    found = {}
    for name, method in inspect.getmembers(consumer, lambda member: getattr(member, _MARK, False)):
        found[name] = Declared(name, msgspec.json.Decoder(_arguments_type(consumer, name, method)))
    return MappingProxyType(found)


def _arguments_type(consumer: type, name: str, method: Callable[..., Any]) -> type[msgspec.Struct]:
    where = f"{consumer.__qualname__}.{name}"
    try:
        annotation = get_type_hints(method).get("args")
    except NameError as error:
        raise CommandDeclarationError(
            f"@command {where}: the annotation of `args` can't be resolved ({error}); define the Struct at module level"
        ) from error
    if not (isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)):
        shape = _SHAPE.format(name=name)
        raise CommandDeclarationError(
            f"@command {where} must annotate `args` with a msgspec.Struct, found {annotation!r}: {shape}"
        )
    return annotation
