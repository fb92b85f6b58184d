"""The project's settings before: plain Channels. LAYER_HOST is the address of the server."""

import os

SECRET_KEY = "for tests only"
USE_TZ = True
INSTALLED_APPS = ["channels"]
ASGI_APPLICATION = "tests.plain.asgi.application"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # Without socket_timeout an idle plain worker dies after 5 s with redis-py >= 8.
        "CONFIG": {"hosts": [{"address": os.environ["REDIS_URL"], "socket_timeout": None}]},
    }
}
