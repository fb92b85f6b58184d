"""The site's settings with the task backend that TASKS_BACKEND names, and nothing else changed."""

import os

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS

TASKS = {"default": {"BACKEND": os.environ["TASKS_BACKEND"], "QUEUES": ["default", "bulk", "reports"]}}
if "django_tasks_db" in os.environ["TASKS_BACKEND"]:
    INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
