"""Addresses of the jobs part of the control room."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
