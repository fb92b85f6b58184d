"""The durable project with limits on its channel: LIMITS is its entry of RETRYING["CHANNELS"], as JSON."""

import json
import os

from tests.plain.durable_settings import *  # noqa: F403
from tests.plain.durable_settings import RETRYING as DURABLE

RETRYING = {**DURABLE, "CHANNELS": {"work": json.loads(os.environ["LIMITS"])}}
