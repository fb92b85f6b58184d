"""URLs of the insights app."""

from django.conf import settings
from django.urls import path

from . import pages, stand_in

urlpatterns = [
    path("insights/", pages.insights, name="insights"),
    path("insights/state/", pages.state, name="insights-state"),
    path("insights/run/<str:name>/", pages.run, name="insights-run"),
    path("insights/spread/", pages.spread, name="insights-spread"),
    path("insights/summaries/", pages.ask_summaries, name="insights-summaries"),
    path("insights/forecast/", pages.ask_forecast, name="insights-forecast"),
]

if settings.DEBUG:
    urlpatterns += [
        path("stand-in/search/repositories", stand_in.search),
        path("stand-in/functions/<str:function>/invocations", stand_in.invoke),
    ]
