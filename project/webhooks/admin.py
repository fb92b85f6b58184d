"""Deliveries in Django's admin: each row leads to its job in the control room, and the job back to it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from realtime.control_room import related

from .models import CHANNEL, Delivery


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin):
    """Read-only: what changes a delivery is the page of its owner, and its job."""

    list_display = ("id", "endpoint", "state", "attempt", "created_at", "job")
    list_filter = ("state",)
    list_select_related = ("endpoint",)
    search_fields = ("id", "endpoint__url")
    fields = readonly_fields = (
        "id", "owner", "endpoint", "state", "reason", "generation", "attempt", "created_at", "finished_at", "payload",
        "job",
    )  # fmt: skip

    @admin.display(description="job")
    def job(self, delivery: Delivery) -> str:
        address = reverse("control_room:job", args=[CHANNEL, delivery.job_id])
        return format_html('<a href="{}">{}</a>', address, delivery.job_id)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def delivery_of(job_id: str) -> tuple[str, str] | None:
    """The link from a job to its delivery; None when there is no such row."""
    delivery_id = job_id.partition(".")[0]
    if not Delivery.objects.filter(pk=delivery_id).exists():
        return None
    return "Delivery", reverse("admin:webhooks_delivery_change", args=[delivery_id])


related.register(CHANNEL, delivery_of)
