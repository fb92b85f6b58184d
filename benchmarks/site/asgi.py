"""The project's ASGI application; under plain Channels without what only this package has."""

from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from django.conf import settings

from benchmarks.site.consumers import SyncWork, Work

channels = {"work": Work.as_asgi(), "sync-work": SyncWork.as_asgi()}
if "retrying" in settings.INSTALLED_APPS:
    from benchmarks.site.background import Background, SyncBackground

    channels.update({"background": Background.as_asgi(), "sync-background": SyncBackground.as_asgi()})

application = ProtocolTypeRouter({"channel": ChannelNameRouter(channels)})
