"""The project's ASGI application."""

import os

from channels.routing import ChannelNameRouter, ProtocolTypeRouter

from benchmarks.noop.consumers import NoOp, NoOpDirect, NoOpSync, Shaky

many = {f"noop-{number}": NoOp.as_asgi() for number in range(int(os.environ.get("CHANNELS", "0")))}
application = ProtocolTypeRouter(
    {
        "channel": ChannelNameRouter(
            {
                "noop": NoOp.as_asgi(),
                "noop-direct": NoOpDirect.as_asgi(),
                "noop-sync": NoOpSync.as_asgi(),
                "noop-retry": Shaky.as_asgi(),
                **many,
            }
        )
    }
)
