"""The control room's addresses: ``path("jobs/", include("realtime.control_room.urls"))``."""

from __future__ import annotations

from django.urls import include, path

from . import access, overview, screens

app_name = "control_room"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("parts/<str:name>/", access.page(screens.part_view), name="parts"),
    path("", include("realtime.control_room.room_urls")),
]
