"""For a project's URLs: ``path("", include("retrying.urls"))``."""

from __future__ import annotations

from django.urls import path

from . import health, metrics

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics),
]
