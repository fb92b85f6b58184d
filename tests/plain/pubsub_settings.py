"""The durable project, on the layer for groups of many sockets."""

from tests.plain.durable_settings import *  # noqa: F403
from tests.plain.durable_settings import CHANNEL_LAYERS

CHANNEL_LAYERS["default"]["BACKEND"] = "retrying.layers.RetryingPubSubChannelLayer"
