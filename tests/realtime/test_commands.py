"""Declaring commands: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from realtime.consumers import CommandDeclarationError, JobConsumer, command


class Order(msgspec.Struct):
    url: str


def test_commands_are_found_in_mixins_and_can_be_overridden() -> None:
    class Mixin:
        @command
        async def first(self, args: Order, command_id: str) -> dict[str, Any]:
            return {"from": "mixin"}

    class Consumer(Mixin, JobConsumer):
        channel = "orders"

        @command
        async def second(self, args: Order, command_id: str) -> dict[str, Any]:
            return {}

    assert sorted(Consumer.commands) == ["first", "second"]
    assert not JobConsumer.commands


def test_a_command_without_a_struct_is_a_declaration_error() -> None:
    with pytest.raises(CommandDeclarationError, match=r"Consumer\.order must annotate `args` with a msgspec\.Struct"):

        class Consumer(JobConsumer):
            channel = "orders"

            @command
            async def order(self, args, command_id) -> dict[str, Any]:  # type: ignore[no-untyped-def]
                return {}


def test_a_struct_that_can_not_be_found_is_a_declaration_error() -> None:
    class Hidden(msgspec.Struct):
        pass

    with pytest.raises(CommandDeclarationError, match="at module level"):

        class Consumer(JobConsumer):
            channel = "orders"

            @command
            async def order(self, args: Hidden, command_id: str) -> dict[str, Any]:
                return {}


def test_a_command_is_a_coroutine_method_with_two_arguments() -> None:
    with pytest.raises(CommandDeclarationError, match="must be a coroutine method"):

        @command
        def order(self: Any, args: Order, command_id: str) -> dict[str, Any]:
            return {}

    with pytest.raises(CommandDeclarationError, match=r"takes \(self, order\); it must be"):

        @command
        async def place(self: Any, order: Order) -> dict[str, Any]:
            return {}

    with pytest.raises(CommandDeclarationError, match="underscore"):

        @command
        async def _private(self: Any, args: Order, command_id: str) -> dict[str, Any]:
            return {}


def test_a_consumer_names_its_channel() -> None:
    class Consumer(JobConsumer):
        pass

    with pytest.raises(TypeError, match=r"Consumer\.channel must name"):
        Consumer()
