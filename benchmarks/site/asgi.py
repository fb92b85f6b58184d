"""The project's ASGI application."""

from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from benchmarks.site.consumers import SyncWork, Work

application = ProtocolTypeRouter(
    {"channel": ChannelNameRouter({"work": Work.as_asgi(), "sync-work": SyncWork.as_asgi()})}
)
