"""The control room in the index of ``django.contrib.admin``, for those who may see it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse

from .control_room.access import access_of
from .models import ControlRoom

OVERVIEW = "control_room:overview"


@admin.register(ControlRoom)
class ControlRoomAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in Django's stubs only
    """There is nothing to edit: the list is the control room itself."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _mounted() and access_of(request.user).view

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse(OVERVIEW))


def _mounted() -> bool:
    """Whether the project's URLs include the control room's."""
    try:
        reverse(OVERVIEW)
    except NoReverseMatch:
        return False
    return True
