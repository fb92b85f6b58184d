"""Addresses of the jobs part of the control room."""

from __future__ import annotations

from django.urls import path

from . import actions, dead, job, listing, runs

ONE = "job/<str:channel>/<str:job_id>/"

urlpatterns = [
    path("list/", listing.listing, name="jobs"),
    path(ONE, job.job, name="job"),
    path(f"{ONE}<str:part>.txt", job.download, name="job-text"),
    path(f"{ONE}<str:verb>/", actions.one, name="job-action"),
    path("dead/", dead.dead, name="dead"),
    path("act/", actions.many, name="act"),
    path("run/", runs.run, name="run"),
]
