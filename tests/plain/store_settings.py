"""The durable project with its jobs on a server of their own: STORE is the description, as Python writes it."""

import ast
import os

from tests.plain.durable_settings import *  # noqa: F403
from tests.plain.durable_settings import CHANNEL_LAYERS

CHANNEL_LAYERS["default"]["CONFIG"]["store"] = ast.literal_eval(os.environ["STORE"])
