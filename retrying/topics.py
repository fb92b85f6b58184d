"""Reading topics: the log of events that the transitions of a channel's jobs write. See ``realtime`` for browsers."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio

from .layers import get_layer
from .message import check_channel, check_topic
from .store.calls import Position, Slice, TopicEvent

__all__ = ["Position", "Slice", "TopicEvent", "aends", "aread", "client", "key"]


def key(channel: str, topic: str, *, using: str = "default") -> str:
    """The stream that holds the topic, and the pub/sub channel that rings after every event. Raises InvalidJob."""
    check_channel(channel)
    check_topic(topic)
    return get_layer(using).store.keys(channel).topic(topic)


async def aread(
    channel: str, topic: str, after: Position | None = None, *, limit: int = 500, using: str = "default"
) -> Slice:
    """Up to ``limit`` events after a position (None: from the oldest that the log holds). Raises StoreUnavailable."""
    check_channel(channel)
    check_topic(topic)
    layer = get_layer(using)
    return await layer.arun(layer.store.read_topic(channel, topic, after, limit))


async def aends(channel: str, topics: Sequence[str], *, using: str = "default") -> list[Position]:
    """Where each topic's log ends (epoch 0, offset 0: no log); a few hundred at a time. Raises StoreUnavailable."""
    check_channel(channel)
    for topic in topics:
        check_topic(topic)
    layer = get_layer(using)
    return await layer.arun(layer.store.ends(channel, topics))


def client(*, using: str = "default") -> redis.asyncio.Redis:
    """The running loop's client of the store, for ``.pubsub()`` (in a cluster one with just that)."""
    found: redis.asyncio.Redis = get_layer(using).store.connections.async_()
    return found
