"""The control room's addresses: ``path("jobs/", include("realtime.control_room.urls"))``."""

from __future__ import annotations

from django.urls import include, path

from . import access, channels, overview, schedules, screens, series, workers

app_name = "control_room"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("channels/", channels.channels, name="channels"),
    path("channels/<str:name>/", channels.channel, name="channel"),
    path("channels/<str:name>/<str:what>/", channels.act, name="channel-action"),
    path("workers/", workers.workers, name="workers"),
    path("workers/<str:what>/", workers.act, name="worker-action"),
    path("schedules/", schedules.schedules, name="schedules"),
    path("schedules/<str:what>/", schedules.act, name="schedule-action"),
    path("parts/<str:name>/", access.page(screens.part_view), name="parts"),
    path("series/", series.series, name="series"),
    path("", include("realtime.control_room.room_urls")),
]
