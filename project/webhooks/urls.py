"""URLs of the webhooks app."""

from django.conf import settings
from django.urls import path

from . import api, pages, receivers

urlpatterns = [
    path("", pages.deliveries, name="deliveries"),
    path("deliveries/<str:delivery_id>/", pages.deliveries, name="delivery"),
    path("sign-in/", pages.sign_in, name="sign-in"),
    path("sign-in/<str:token>/", pages.sign_in, name="sign-in-link"),
    path("sign-out/", pages.sign_out, name="sign-out"),
    path("api/deliveries/", api.deliveries),
    path("api/deliveries/<str:delivery_id>/", api.delivery),
    path("api/status/", api.status),
    path("api/workers/kill/", api.kill_worker),
]

if settings.DEBUG:
    urlpatterns += [
        path("receivers/succeeds/", receivers.succeeds),
        path("receivers/fails/<int:times>/", receivers.fails),
        path("receivers/busy/", receivers.busy),
        path("receivers/busy/<int:seconds>/", receivers.busy),
        path("receivers/hangs/", receivers.hangs),
        path("receivers/always-fails/", receivers.always_fails),
    ]
