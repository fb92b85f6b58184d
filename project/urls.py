"""The site's URLs."""

from django.contrib import admin
from django.urls import include, path

from project import health

urlpatterns = [
    path("readyz", health.readyz),
    path("", include("retrying.urls")),
    path("jobs/", include("realtime.control_room.urls")),
    path("admin/", admin.site.urls),
    path("streaming/", include("project.streaming.urls")),
    path("", include("project.insights.urls")),
    path("", include("project.webhooks.urls")),
]
