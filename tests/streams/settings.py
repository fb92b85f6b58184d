"""The settings of the site and workers that these rigs measure; what varies comes from the environment."""

import os

from project.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.streams.site.application"
RETRYING = {
    "CHANNELS": {"streams": {"concurrency": 64}},
    # A resume bridges whatever a topic says while its browser is away: as a project would set it for 100,000 events.
    "TOPIC_MAX_EVENTS": int(os.environ.get("TOPIC_MAX_EVENTS", "20000")),
    "TOPIC_TTL_SECONDS": 3600.0,
}
