"""The composition root of the web side: HTTP, websockets, and the channels that `runworker` consumes."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
site = get_asgi_application()  # before the imports below: they need the apps

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402

from project.routing import channels, websockets  # noqa: E402
from realtime import garbage  # noqa: E402

garbage.keep_pauses_short()

application = ProtocolTypeRouter(
    {
        # Elsewhere the proxy in front serves STATIC_ROOT, after `manage.py collectstatic`.
        "http": ASGIStaticFilesHandler(site) if settings.DEBUG else site,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websockets))),
        "channel": ChannelNameRouter(channels),
    }
)
