"""The control room's addresses: ``path("jobs/", include("realtime.control_room.urls"))``."""

from __future__ import annotations

from django.urls import path

from . import access, actions, channels, dead, job, listing, overview, runs, schedules, screens, series, workers

app_name = "control_room"

ONE_JOB = "job/<str:channel>/<str:job_id>/"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("list/", listing.listing, name="jobs"),
    path("act/", actions.many, name="act"),
    path("run/", runs.run, name="run"),
    path(ONE_JOB, job.job, name="job"),
    path(f"{ONE_JOB}<str:part>.txt", job.download, name="job-text"),
    path(f"{ONE_JOB}<str:verb>/", actions.one, name="job-action"),
    path("dead/", dead.dead, name="dead"),
    path("channels/", channels.channels, name="channels"),
    path("channels/<str:name>/", channels.channel, name="channel"),
    path("channels/<str:name>/<str:what>/", channels.act, name="channel-action"),
    path("workers/", workers.workers, name="workers"),
    path("workers/<str:what>/", workers.act, name="worker-action"),
    path("schedules/", schedules.schedules, name="schedules"),
    path("schedules/<str:what>/", schedules.act, name="schedule-action"),
    path("parts/<str:name>/", access.page(screens.part_view), name="parts"),
    path("series/", series.series, name="series"),
]
